"""Reading one shard: the rows that satisfy some conditions, and their vectors, stored or pooled.

A task that reads one shard opens that shard's files and nothing that grows with the store.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from pipeline.errors import InputError
from pipeline.store.conditions import in_brackets
from pipeline.store.map_spec import MapSpec, read_map_spec
from pipeline.store.place import Place, open_parquet
from pipeline.store.records import MAPS, SHARDS, DataFiles, ShardRecord
from pipeline.store.schema import BOX_COLUMNS, SCALARS, VectorSpec, read_spec, require_columns

if TYPE_CHECKING:
    from pipeline.store.maps import ShardMaps

SCALAR_NAMES = tuple(field.name for field in SCALARS)
MOST_PACKED = 100  # times that rows may be packed; random numbers are not, and zeros once
POOLED_FROM = ("image_id", *BOX_COLUMNS, "scale_px")


def maps_of(root: Place, name: str, spec: MapSpec, vector: VectorSpec) -> "ShardMaps":
    """Return the maps of a shard, to be opened.

    They bring torch, which takes two seconds to load, and which nothing else here needs.
    """
    from pipeline.store.maps import ShardMaps

    return ShardMaps(root, name, spec, vector)


@runtime_checkable
class HasLabels(Protocol):
    """What scanning needs to know of a store."""

    @property
    def root(self) -> Place:
        """Where it lies."""
        ...

    def record(self, shard_id: str) -> ShardRecord:
        """The commit record of one shard."""
        ...

    def objects_of(self, shard_id: str) -> pa.Table:
        """The labelled objects of one shard's images."""
        ...


def scan_shard(
    store: HasLabels,
    shard_id: str,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    classes: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield one shard's matching rows, a row group at a time (see `Store.scan`)."""
    record = store.record(shard_id)
    name = record.name(SHARDS)
    with ExitStack() as stack:
        file = stack.enter_context(open_rows(store.root, record))
        reader = _Reader(file, name, columns)
        stack.enter_context(reader.open_maps(store.root, record))
        if where is None and classes is None:
            for group in range(file.num_row_groups):
                yield reader.read(group)
            return
        objects = store.objects_of(shard_id) if classes is not None else None
        conditions = stack.enter_context(_Conditions(where, classes, objects))
        for group in range(file.num_row_groups):
            # One thread throughout: copying is bound by memory, and workers are many.
            scalars = file.read_row_group(group, columns=list(SCALAR_NAMES), use_threads=False)
            rows = conditions.matching(scalars)
            if len(rows):
                yield reader.read(group, rows)


@contextmanager
def open_rows(root: Place, shard: DataFiles) -> Iterator[pq.ParquetFile]:
    """Open a shard's file of rows.

    Raises:
        InputError: it is missing or damaged, or has other columns or rows than it was written with.
    """
    name, written = shard.name(SHARDS), shard.files[SHARDS]
    with open_parquet(root, name, written.bytes) as file:
        schema = file.schema_arrow
        pooled = read_map_spec(schema) is not None
        spec = read_spec(schema, name, pooled=pooled)
        require_columns(schema, spec, name, pooled=pooled)
        if file.metadata.num_rows != written.rows:
            raise InputError(
                f"{name} has {file.metadata.num_rows:,} rows, its record says {written.rows:,}: "
                "see spp verify"
            )
        # Words that are all the same take no room, however many they are. Vectors do, and boxes.
        least = written.rows * (4 * len(BOX_COLUMNS) if pooled else spec.row_bytes)
        if least > MOST_PACKED * written.bytes:
            raise InputError(
                f"{name} says that it has {written.rows:,} rows in {written.bytes:,} bytes: it is "
                "made to fill the memory; see spp verify"
            )
        yield file


class _Reader:
    """Row groups of one shard, with the vectors that it has or pools."""

    def __init__(self, file: pq.ParquetFile, name: str, columns: Sequence[str] | None) -> None:
        self._file = file
        self._map_spec = read_map_spec(file.schema_arrow)
        self._spec = read_spec(file.schema_arrow, name, pooled=self._map_spec is not None)
        self._schema = self._spec.schema()
        self._columns = list(self._schema.names if columns is None else columns)
        unknown = sorted(set(self._columns) - set(self._schema.names))
        if unknown:
            known = ", ".join(self._schema.names)
            raise InputError(f"{name} has no column {unknown[0]}; it has {known}")
        self._maps: ShardMaps | None = None

    def open_maps(self, root: Place, record: ShardRecord) -> AbstractContextManager[object]:
        """Open what vectors are pooled from, where they are asked for and not stored."""
        if self._map_spec is None or "vector" not in self._columns:
            return nullcontext()
        self._maps = maps_of(root, record.name(MAPS), self._map_spec, self._spec)
        return self._maps

    def read(self, group: int, rows: Int[np.ndarray, " chosen"] | None = None) -> pa.Table:
        """Return a row group, or those of its rows; no other row is pooled."""
        needed = self._columns
        if self._maps is not None:
            needed = [*dict.fromkeys([*needed, *POOLED_FROM])]
            needed.remove("vector")
        table = self._file.read_row_group(group, columns=needed, use_threads=False)
        if rows is not None:
            table = table.take(rows)
        if self._maps is not None:
            table = table.append_column(self._schema.field("vector"), self._maps.pool(table))
        return table.select(self._columns).replace_schema_metadata(self._schema.metadata)


class _Conditions:
    """Which rows of a table satisfy a condition in SQL, and are objects of some classes."""

    def __init__(
        self, where: str | None, classes: Sequence[str] | None, objects: pa.Table | None
    ) -> None:
        self._where = where
        self._connection = duckdb.connect(config={"enable_external_access": "false"})
        conditions = [] if where is None else [in_brackets(where, self._connection)]
        if classes is not None:
            self._connection.register("objects", objects)
            self._connection.register("wanted", pa.table({"class": pa.array(classes, pa.string())}))
            conditions.append(
                "(image_id, x_min, y_min, x_max, y_max) IN "
                "(SELECT (image_id, x_min, y_min, x_max, y_max) FROM objects "
                'WHERE "class" IN (SELECT "class" FROM wanted))'
            )
        self._query = f"SELECT row FROM rows WHERE {' AND '.join(conditions)} ORDER BY row"

    def __enter__(self) -> "_Conditions":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def matching(self, rows: pa.Table) -> Int[np.ndarray, " chosen"]:
        """Return the places of the rows that satisfy all conditions, in order."""
        numbered = rows.append_column("row", pa.array(np.arange(len(rows))))
        self._connection.register("rows", numbered)
        try:
            return np.asarray(self._connection.execute(self._query).fetchnumpy()["row"])
        except duckdb.Error as error:
            raise InputError(f"the condition {self._where!r} cannot be used: {error}") from None
