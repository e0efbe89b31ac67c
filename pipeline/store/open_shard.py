"""One shard that is open for its rows: where each vector lies, or the maps it is pooled from."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from pipeline.errors import InputError
from pipeline.store import schema
from pipeline.store.blocks import Block, block_of
from pipeline.store.map_spec import read_map_spec
from pipeline.store.pages import lies_plain, row_starts
from pipeline.store.place import Place, damage_named
from pipeline.store.records import MAPS, SHARDS, DataFiles
from pipeline.store.scan import POOLED_FROM, maps_of, open_rows
from pipeline.store.schema import VectorSpec, read_spec

if TYPE_CHECKING:
    from pipeline.store.maps import ShardMaps, StoredMap


class Copies:
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


class OpenShard:
    """An open shard. Its files stay mapped while a block of it is in use."""

    def __init__(self, root: Place, entry: DataFiles, spec: VectorSpec, copies: Copies) -> None:
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
