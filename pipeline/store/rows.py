"""The vectors of a store by the number of their row, stored or pooled: what every question reads.

Rows are numbered through all shards, in the order of the manifest. Vectors that lie in a file as
they are (see `pages`) are read where they are; others are copied, and in a store of maps pooled,
for the rows that are asked for and no others.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int

from pipeline.errors import InputError
from pipeline.store import schema
from pipeline.store.blocks import Block, Query, block_of
from pipeline.store.map_spec import read_map_spec
from pipeline.store.pages import lies_plain, row_starts
from pipeline.store.place import Place, damage_named
from pipeline.store.reader import Store
from pipeline.store.records import MAPS, SHARDS, DataFiles
from pipeline.store.scan import POOLED_FROM, maps_of, open_rows, scan_shard
from pipeline.store.schema import VectorSpec, read_spec

if TYPE_CHECKING:
    from pipeline.store.maps import ShardMaps, StoredMap

# With their footers, and where their vectors lie. Files that stay mapped are read 1.5 times as fast
# as those that are mapped anew in each pass, and take memory that is the system's to take back.
MAPPED_SHARDS, OPEN_SHARDS = 256, 16
COPIED_BYTES = 1 << 29  # of row groups that had to be copied: 16 to 64 MB each, several threads

_Places = Int[np.ndarray, " places"]


class Vectors:
    """The vectors of a finished store, or of some of its shards. Safe in threads."""

    def __init__(
        self,
        store: Store,
        shards: Sequence[DataFiles] | None = None,
        kept_open: int = MAPPED_SHARDS,
        copied_bytes: int | None = None,
    ) -> None:
        """Look at a store.

        Args:
            store: finished.
            shards: some of its shards; None: all.
            kept_open: shards that stay mapped, for who reads rows of all in any order. Of stores
                that are not files of this machine it is `OPEN_SHARDS` in any case.
            copied_bytes: of row groups that had to be copied, kept for who asks again; None:
                `COPIED_BYTES`. The last one is kept in any case.
        """
        self.store, self.spec = store, store.spec
        self._shards = store.shards if shards is None else shards
        counts = np.fromiter((entry.rows for entry in self._shards), np.int64, len(self._shards))
        self.first: Int[np.ndarray, " shards_and_one"] = np.concatenate([[0], np.cumsum(counts)])
        """Number of each shard's first row; last, how many rows there are."""
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Shard] = OrderedDict()
        self._copies = _Copies(COPIED_BYTES if copied_bytes is None else copied_bytes)
        self._kept_open = kept_open if is_mapped(store) else OPEN_SHARDS
        self._schema = store.schema.remove_metadata()
        self.far = store.root.far
        """Whether each read is a request over a network."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def blocks(self, shard: int) -> Iterator[tuple[int, Block]]:
        """Yield the row groups of one shard, each with the number of its first row."""
        opened = self._shard(shard)
        for group in range(opened.groups):
            yield int(self.first[shard] + opened.first[group]), opened.block(group)

    def parts(
        self, rows: Int[np.ndarray, " wanted"]
    ) -> Iterator[tuple[Int[np.ndarray, " places"], Block]]:
        """Yield rows block by block, each with the places that they have in `rows`.

        Raises:
            InputError: there is no such row, or its shard is damaged.
        """
        for places, opened, group, chosen in self._located(rows):
            yield places, opened.block(group, chosen)

    def scalars(self, rows: Int[np.ndarray, " wanted"], columns: Sequence[str]) -> pa.Table:
        """Return other columns of some rows, in the order asked; no vector is read.

        Raises:
            InputError: there is no such row, or its shard is damaged.
        """
        named = list(columns)
        parts = [self._schema.empty_table().select(named)]
        order = [np.zeros(0, np.int64)]
        for places, opened, group, chosen in self._located(rows):
            read = opened.read(group, named).replace_schema_metadata()
            parts.append(read.take(pa.array(chosen)))
            order.append(places)
        # A dictionary of words is each shard's own.
        table = pa.concat_tables(parts).unify_dictionaries()
        return table.take(pa.array(np.argsort(np.concatenate(order))))

    def _located(
        self, rows: Int[np.ndarray, " wanted"]
    ) -> Iterator[tuple[_Places, "_Shard", int, _Places]]:
        """Yield the rows of each row group: their places in `rows`, and in the group."""
        if not len(rows):
            return
        if rows.min() < 0 or rows.max() >= len(self):
            raise InputError(
                f"the store has {len(self):,} rows, and none has number {rows.max():,}"
            )
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        shards = np.searchsorted(self.first, ordered, side="right") - 1
        for part in _runs(shards):
            shard = int(shards[part.start])
            opened = self._shard(shard)
            inside = ordered[part] - self.first[shard]
            groups = np.searchsorted(opened.first, inside, side="right") - 1
            for run in _runs(groups):
                group = int(groups[run.start])
                yield order[part][run], opened, group, inside[run] - opened.first[group]

    def take(self, rows: Int[np.ndarray, " wanted"]) -> Float[np.ndarray, "wanted dim"]:
        """Return the vectors of some rows, in any order, as they are stored."""
        out = np.empty((len(rows), self.spec.length), self.spec.dtype)
        for places, block in self.parts(rows):
            out[places] = block.take()
        return out

    def maps(self, row: int) -> "list[StoredMap]":
        """Return the feature maps of the image that a row is of, in a store of maps.

        Raises:
            InputError: a map is damaged.
        """
        shard = int(np.searchsorted(self.first, row, side="right")) - 1
        return self._shard(shard).maps(row - int(self.first[shard]))

    def measure(
        self, rows: Int[np.ndarray, " wanted"], given: Query
    ) -> tuple[Float32[np.ndarray, " wanted"], Float32[np.ndarray, " wanted"]]:
        """Return each row's product with a vector, and its own squared length."""
        products, squares = np.empty((2, len(rows)), np.float32)
        for places, block in self.parts(rows):
            products[places], squares[places] = block.measure(given)
        return products, squares

    def _shard(self, number: int) -> "_Shard":
        with self._lock:
            opened = self._open.pop(number, None)
            if opened is None:
                opened = _Shard(self.store.root, self._shards[number], self.spec, self._copies)
            self._open[number] = opened
            while len(self._open) > self._kept_open:
                self._open.popitem(last=False)  # who still reads it keeps it
        return opened


class _Copies:
    """Row groups that were copied last, of all shards together. Safe in threads."""

    def __init__(self, most_bytes: int) -> None:
        self._lock, self._bytes, self._most_bytes = threading.Lock(), 0, most_bytes
        self._held: OrderedDict[tuple[str, int], Block] = OrderedDict()

    def get(self, key: tuple[str, int]) -> Block | None:
        """Return a row group, by its file and its place there."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[str, int], block: Block) -> None:
        """Keep a row group, and give up those that nobody has asked for longest."""
        with self._lock:
            if key not in self._held:
                self._held[key] = block
                self._bytes += block.buffer.nbytes
            while self._bytes > self._most_bytes and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].buffer.nbytes


class _Shard:
    """An open shard. Its files stay mapped while a block of it is in use."""

    def __init__(self, root: Place, entry: DataFiles, spec: VectorSpec, copies: _Copies) -> None:
        self._copies = copies
        self._files, self._lock = ExitStack(), threading.RLock()
        self._root, self._name, self._spec = root, entry.name(SHARDS), spec
        self._bytes = entry.files[SHARDS].bytes
        self._file = self._files.enter_context(open_rows(root, entry))
        schema_ = self._file.schema_arrow
        maps = read_map_spec(schema_)
        if (held := read_spec(schema_, self._name, pooled=maps is not None)) != spec:
            raise InputError(f"{self._name} has vectors as {held}, other shards as {spec}")
        metadata = self._file.metadata
        counts = [metadata.row_group(each).num_rows for each in range(metadata.num_row_groups)]
        self.first = np.cumsum([0, *counts])
        self._maps: ShardMaps | None = None
        if maps is not None:
            opened_maps = maps_of(root, entry.name(MAPS), maps, spec)
            self._maps = self._files.enter_context(opened_maps)
        self._mapped: dict[int, Block] = {}

    def __del__(self) -> None:
        self._files.close()

    @property
    def groups(self) -> int:
        """How many row groups there are."""
        return len(self.first) - 1

    def block(self, group: int, rows: Int[np.ndarray, " chosen"] | None = None) -> Block:
        """Return the vectors of a row group, or those of some of its rows."""
        if self._maps is not None:
            return self._pooled(self._maps.pool, group, rows)
        with self._lock:
            held = self._mapped.get(group) or self._copies.get((self._name, group))
            held = held or self._read(group)
        return held if rows is None else Block(held.buffer, held.starts[rows], self._spec)

    def read(self, group: int, columns: list[str]) -> pa.Table:
        """Return columns of a row group."""
        with self._lock, damage_named(self._root, self._name):
            return self._file.read_row_group(group, columns, use_threads=False)

    def maps(self, row: int) -> "list[StoredMap]":
        """Return the maps of the image that a row is of."""
        assert self._maps is not None  # whoever asks for maps knows that there are some
        group = int(np.searchsorted(self.first, row, side="right")) - 1
        with self._lock:
            ids = self.read(group, ["image_id"])["image_id"]
            return list(self._maps.stored(ids[row - int(self.first[group])].as_py()))

    def _read(self, group: int) -> Block:
        metadata = self._file.metadata.row_group(group)
        column = metadata.column(self._vector_column)
        if lies_plain(column):
            opened = self._root.open(self._name, self._bytes)
            with damage_named(self._root, self._name), opened as file:
                file.seek(column.data_page_offset)
                buffer = np.frombuffer(file.read_buffer(column.total_compressed_size), np.uint8)
            starts = row_starts(buffer, metadata.num_rows, self._spec.row_bytes)
            block = Block(buffer, starts, self._spec)
            if not self._root.far:
                self._mapped[group] = block
                return block
        else:
            block = block_of(schema.vectors(self.read(group, ["vector"])), self._spec)
        self._copies.put((self._name, group), block)
        return block

    @cached_property
    def _vector_column(self) -> int:
        return self._file.schema_arrow.names.index("vector")

    def _pooled(
        self,
        pool: Callable[[pa.Table], pa.Array],
        group: int,
        rows: Int[np.ndarray, " chosen"] | None,
    ) -> Block:
        with self._lock:
            table = self.read(group, list(POOLED_FROM))
            if rows is not None:
                # In order, for an image's windows are pooled together.
                table = table.take(pa.array(rows))
            pooled = pool(table)
        return block_of(self._spec.to_numpy(pooled), self._spec)


def _runs(values: Int[np.ndarray, " sorted"]) -> Iterator[slice]:
    """Yield where equal values of a sorted array stand."""
    ends = [*(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    start = 0
    for end in ends:
        yield slice(start, end)
        start = end


def row_groups(
    store: Store, shard_id: str, columns: Sequence[str]
) -> Iterator[tuple[pa.Table, Block]]:
    """Yield the rows of one shard, a row group at a time: some of their columns, and their vectors.

    Vectors that lie in a file of this machine are not read before somebody touches them.
    """
    if is_mapped(store):
        blocks = (block for _, block in Vectors(store, [store.record(shard_id)]).blocks(0))
        yield from zip(scan_shard(store, shard_id, columns), blocks, strict=True)
        return
    for table in scan_shard(store, shard_id, [*columns, "vector"]):
        yield table.drop_columns("vector"), block_of(schema.vectors(table), store.spec)


def is_mapped(store: Store) -> bool:
    """Return whether vectors are read where they lie, in files of this machine."""
    return not store.root.far and store.kind == "windows" and store.spec.layout == "binary"
