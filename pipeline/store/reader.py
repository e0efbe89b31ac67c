"""Reading a store: rows, columns and conditions, SQL, and the proof that it is whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlparse

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.store.files import read_json
from pipeline.store.labels import read_labels
from pipeline.store.manifest import SETTINGS, Fault, read_manifest, verify
from pipeline.store.maps import read_map_spec
from pipeline.store.records import ShardRecord, read_record, shard_path
from pipeline.store.scan import scan_shard
from pipeline.store.schema import VectorSpec, read_spec


@dataclass(frozen=True)
class Totals:
    """What a task may need to know of all shards, without reading their records."""

    rows: int
    images: int
    bytes: int
    first: str | None
    """Id of the first shard; None where the dataset had no image."""


@dataclass(frozen=True)
class Store:
    """A finished store of window features, as vectors or as maps to pool them from.

    Sent to another process, it takes along totals and not records: what a task costs there does
    not grow with the store, as long as it asks for one shard's `record`, `objects_of` and rows.
    """

    root: Path

    def __getstate__(self) -> dict[str, Any]:
        small = ("root", "totals", "schema", "made_from")
        return {name: value for name, value in self.__dict__.items() if name in small}

    @cached_property
    def records(self) -> list[ShardRecord]:
        """The commit records that the manifest names, in shard order."""
        return read_manifest(self.root)

    @cached_property
    def totals(self) -> Totals:
        """Sums over the records."""
        held = self.records
        return Totals(
            rows=sum(record.rows for record in held),
            images=sum(len(record.images) for record in held),
            bytes=sum(record.bytes for record in held),
            first=held[0].shard_id if held else None,
        )

    def record(self, shard_id: str) -> ShardRecord:
        """Return one shard's commit record; no other is read.

        Raises:
            InputError: the shard is not committed.
        """
        held = read_record(self.root, shard_id)
        if held is None:
            raise InputError(f"{self.root} has no record of shard {shard_id}: see spp verify")
        return held

    @cached_property
    def schema(self) -> pa.Schema:
        """Schema of the shards' files of rows."""
        if self.totals.first is None:
            raise InputError(f"{self.root} holds no shard; its dataset had no image")
        return pq.read_schema(shard_path(self.root, self.totals.first))

    @property
    def kind(self) -> Literal["windows", "maps"]:
        """Whether vectors are stored, or pooled from feature maps when they are read."""
        return "windows" if read_map_spec(self.schema) is None else "maps"

    @property
    def spec(self) -> VectorSpec:
        """Length, dtype and layout of the vectors."""
        return read_spec(self.schema, str(self.root), pooled=self.kind == "maps")

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """What decided the vectors: network digest, features, windows, dataset, split."""
        return read_json(self.root / SETTINGS) or {}

    @cached_property
    def objects(self) -> pa.Table:
        """The labels: image_id, object_id, class, x_min, y_min, x_max, y_max, difficult."""
        return read_labels(self.root / "objects.parquet")

    @cached_property
    def images(self) -> pa.Table:
        """The images: image_id, file, width, height, split."""
        return read_labels(self.root / "images.parquet")

    def objects_of(self, shard_id: str) -> pa.Table:
        """Return the objects in one shard's images."""
        return read_labels(self.root / "objects.parquet", self.record(shard_id).images)

    def images_of(self, shard_id: str) -> pa.Table:
        """Return the rows of `images` of one shard's images."""
        return read_labels(self.root / "images.parquet", self.record(shard_id).images)

    def __len__(self) -> int:
        """Rows of all shards."""
        return self.totals.rows

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the rows in order, a row group at a time.

        Args:
            columns: which to read; default all. Without `vector`, no vector is read.
                In a store of maps, vectors are pooled, and only those of the rows that match.
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

        Reads nothing but this store, and writes nothing. In a store of maps, `windows` has no
        column `vector`: `scan` pools it.

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
                raise InputError(f"the query failed: {error}{self._hint(query)}") from None

    def _hint(self, query: str) -> str:
        if "vector" not in query.lower() or self.totals.first is None or self.kind == "windows":
            return ""
        return (
            ". This store keeps feature maps, and its table windows has no vector: Store.scan "
            "pools vectors as it reads"
        )

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
    _ = store.totals
    return store
