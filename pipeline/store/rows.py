"""The vectors of a store by the number of their row, stored or pooled: what every question reads.

Rows are numbered through all shards, in the order of the manifest. Vectors that lie in a file as
they are (see `pages`) are read where they are; others are copied, and in a store of maps pooled,
for the rows that are asked for and no others.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int

from pipeline.errors import InputError
from pipeline.store import schema
from pipeline.store.blocks import Block, Query, block_of
from pipeline.store.open_shard import Copies, OpenShard
from pipeline.store.reader import Store
from pipeline.store.records import DataFiles
from pipeline.store.scan import scan_shard

if TYPE_CHECKING:
    from pipeline.store.maps import StoredMap

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
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._copies = Copies(COPIED_BYTES if copied_bytes is None else copied_bytes)
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
    ) -> Iterator[tuple[_Places, OpenShard, int, _Places]]:
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

    def _shard(self, number: int) -> OpenShard:
        with self._lock:
            opened = self._open.pop(number, None)
            if opened is None:
                opened = OpenShard(self.store.root, self._shards[number], self.spec, self._copies)
            self._open[number] = opened
            while len(self._open) > self._kept_open:
                self._open.popitem(last=False)  # who still reads it keeps it
        return opened


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
