"""Reading a store: rows, columns and conditions, SQL, and the proof that it is whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.store.files import read_json
from pipeline.store.manifest import SETTINGS, Fault, read_manifest, verify
from pipeline.store.schema import SCALARS, VectorSpec, read_spec
from pipeline.store.shards import ShardRecord, shard_path


@dataclass(frozen=True)
class Store:
    """A finished store of window features."""

    root: Path

    @cached_property
    def records(self) -> list[ShardRecord]:
        """The commit records that the manifest names, in shard order."""
        return read_manifest(self.root)

    @cached_property
    def spec(self) -> VectorSpec:
        """Length, dtype and layout of the vectors."""
        if not self.records:
            raise InputError(f"{self.root} holds no shard; its dataset had no image")
        path = shard_path(self.root, self.records[0].shard_id)
        return read_spec(pq.read_schema(path), path.name)

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """What decided the vectors: network digest, features, windows, dataset, split."""
        return read_json(self.root / SETTINGS) or {}

    @cached_property
    def objects(self) -> pa.Table:
        """The labels: image_id, object_id, class, x_min, y_min, x_max, y_max, difficult."""
        return self._labels("objects.parquet")

    @cached_property
    def images(self) -> pa.Table:
        """The images: image_id, file, width, height, split."""
        return self._labels("images.parquet")

    def _labels(self, name: str) -> pa.Table:
        try:
            return pq.read_table(self.root / name)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{self.root / name} cannot be read ({error}): remove the job's done.json and run "
                "the recipe again"
            ) from None

    def __len__(self) -> int:
        """Rows of all shards."""
        return sum(record.rows for record in self.records)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the rows in order, a row group at a time.

        Args:
            columns: which to read; default all. Without `vector`, no vector is read.
            where: a condition in SQL over the columns other than `vector`, such as
                `"source = 'ground_truth' AND x_max - x_min > 100"`.
            classes: only windows that are exactly a labelled object of one of these classes.

        Yields:
            Tables; row groups without a matching row are not read, and not yielded.
        """
        for record in self.records:
            yield from scan_shard(self, record.shard_id, columns, where, classes)

    def sql(self, query: str) -> pa.Table:
        """Answer a query over the tables `windows`, `images` and `objects`, with DuckDB.

        Reads nothing but this store, and writes nothing.

        Raises:
            InputError: the query is not one SELECT, or it fails.
        """
        shards = [str(shard_path(self.root, record.shard_id)) for record in self.records]
        if missing := [path for path in shards if not Path(path).is_file()]:
            raise InputError(f"shard {missing[0]} is missing: see spp verify {self.root}")
        with duckdb.connect() as connection:
            for name in ("images", "objects"):
                connection.register(name, getattr(self, name))
            connection.execute("SET allowed_paths = $paths", {"paths": shards})
            connection.execute("SET enable_external_access = false")
            files = ", ".join("'" + path.replace("'", "''") + "'" for path in shards)
            try:
                connection.execute(f"CREATE VIEW windows AS SELECT * FROM read_parquet([{files}])")
                connection.execute("SET lock_configuration = true")
                # The paths that may be read may be written, too: COPY could replace a shard.
                kinds = [statement.type for statement in connection.extract_statements(query)]
                if kinds != [duckdb.StatementType.SELECT]:
                    raise InputError("give one SELECT: a query reads the store and changes nothing")
                return connection.sql(query).to_arrow_table()
            except duckdb.Error as error:
                raise InputError(f"the query failed: {error}") from None

    def verify(self) -> list[Fault]:
        """Return everything that is wrong with the store's files; an empty list is the proof."""
        return verify(self.root)


def open(uri: str | Path) -> Store:
    """Open a finished store.

    Args:
        uri: a folder, or a `file://` URI.

    Raises:
        InputError: there is no finished store.
    """
    parsed = urlparse(str(uri))
    if parsed.scheme not in ("", "file"):
        raise InputError(
            f"{uri}: stores on {parsed.scheme}:// cannot be read yet; copy it to a local folder"
        )
    store = Store(Path(unquote(parsed.path) if parsed.scheme else str(uri)))
    _ = store.records
    return store


def scan_shard(
    store: Store,
    shard_id: str,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    classes: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield one shard's matching rows, a row group at a time (see `Store.scan`)."""
    path = shard_path(store.root, shard_id)
    wanted = list(columns) if columns is not None else [*(f.name for f in SCALARS), "vector"]
    with pq.ParquetFile(path, memory_map=True) as file:
        unknown = sorted(set(wanted) - set(file.schema_arrow.names))
        if unknown:
            known = ", ".join(file.schema_arrow.names)
            raise InputError(f"{path.name} has no column {unknown[0]}; it has {known}")
        for group in range(file.num_row_groups):
            rows = _matching(store, file, group, where, classes)
            if rows is None:
                yield file.read_row_group(group, columns=wanted)
            elif len(rows):
                yield file.read_row_group(group, columns=wanted).take(rows)


def _matching(
    store: Store,
    file: pq.ParquetFile,
    group: int,
    where: str | None,
    classes: Sequence[str] | None,
) -> np.ndarray | None:
    """Rows of the group that satisfy the conditions; None where there are none to satisfy."""
    if where is None and classes is None:
        return None
    scalars = [field.name for field in SCALARS]
    rows = file.read_row_group(group, columns=scalars)
    rows = rows.append_column("row", pa.array(np.arange(len(rows))))
    conditions = [f"({where})"] if where is not None else []
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("rows", rows)
        if classes is not None:
            connection.register("objects", store.objects)
            connection.register("wanted", pa.table({"class": pa.array(classes, pa.string())}))
            conditions.append(
                "(image_id, x_min, y_min, x_max, y_max) IN "
                "(SELECT (image_id, x_min, y_min, x_max, y_max) FROM objects "
                'WHERE "class" IN (SELECT "class" FROM wanted))'
            )
        query = f"SELECT row FROM rows WHERE {' AND '.join(conditions)} ORDER BY row"
        try:
            return connection.execute(query).fetchnumpy()["row"]
        except duckdb.Error as error:
            raise InputError(f"the condition {where!r} cannot be used: {error}") from None
