"""Reading a store: rows, columns and conditions, SQL, and the proof that it is whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store.entries import Lines, Manifest, ShardEntry, Totals
from pipeline.store.labels import read_labels
from pipeline.store.manifest import SETTINGS, read_manifest
from pipeline.store.maps import read_map_spec
from pipeline.store.objects import ObjectStore
from pipeline.store.place import Place, open_parquet, place
from pipeline.store.records import SHARDS, ShardRecord, from_json, read_record
from pipeline.store.scan import scan_shard
from pipeline.store.schema import VectorSpec, read_spec
from pipeline.store.verification import Fault, verify


@dataclass(frozen=True)
class Store:
    """A finished store of window features, as vectors or as maps to pool them from.

    Sent to another process, it takes along totals and no manifest: what a task costs there does
    not grow with the store, as long as it asks for one shard's `record`, `objects_of` and rows.
    """

    root: Place

    def __getstate__(self) -> dict[str, Any]:
        small = ("root", "totals", "schema", "made_from")
        return {name: value for name, value in self.__dict__.items() if name in small}

    @cached_property
    def manifest(self) -> Manifest:
        """What was finished, a line for each shard."""
        return read_manifest(self.root)

    @property
    def shards(self) -> Lines | list[ShardEntry]:
        """The shards that the manifest names, in order; image by image they are in `record`."""
        return self.manifest.shards

    @cached_property
    def totals(self) -> Totals:
        """Sums over the shards."""
        return self.manifest.totals

    def quarantined(self) -> dict[str, str]:
        """Return why each image that could not be read could not; only their records are read."""
        ids = [entry.shard_id for entry in self.shards if entry.quarantined]
        found: dict[str, str] = {}
        for record in self.root.each(self.record, ids):
            found |= record.quarantined
        return found

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
        with open_parquet(self.root, self.totals.first) as file:
            return file.schema_arrow

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
        return from_json(self.root.read(SETTINGS)) or {}

    @cached_property
    def objects(self) -> pa.Table:
        """The labels: image_id, object_id, class, x_min, y_min, x_max, y_max, difficult."""
        return read_labels(self.root, "objects.parquet")

    @cached_property
    def images(self) -> pa.Table:
        """The images: image_id, file, width, height, split."""
        return read_labels(self.root, "images.parquet")

    def objects_of(self, shard_id: str) -> pa.Table:
        """Return the objects in one shard's images."""
        return read_labels(self.root, "objects.parquet", self.record(shard_id).images)

    def images_of(self, shard_id: str) -> pa.Table:
        """Return the rows of `images` of one shard's images."""
        return read_labels(self.root, "images.parquet", self.record(shard_id).images)

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
        for entry in self.shards:
            yield from scan_shard(self, entry.shard_id, columns, where, classes)

    def sql(self, query: str) -> pa.Table:
        """Answer a query over the tables `windows`, `images` and `objects`, with DuckDB.

        Reads nothing but this store, and writes nothing. In a store of maps, `windows` has no
        column `vector`: `scan` pools it.

        Raises:
            InputError: the query is not one SELECT, or it fails.
        """
        names = [entry.name(SHARDS) for entry in self.shards]
        held = {f"{SHARDS}/{name}" for name in self.root.listing(SHARDS)}
        if missing := [name for name in names if name not in held]:
            raise InputError(f"{self.root}/{missing[0]} is missing: see spp verify {self.root}")
        shards = [f"{self.root}/{name}" for name in names]
        with duckdb.connect() as connection:
            if isinstance(self.root, ObjectStore):
                # Not DuckDB's own httpfs: that is downloaded when first used, and would have to be
                # told the credentials again.
                connection.register_filesystem(self.root.filesystem)
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

    def verify(self, images: bool = False) -> list[Fault]:
        """Return everything that is wrong with the store's files; an empty list is the proof.

        Args:
            images: also read the image files again, and tell which are missing or have changed.
        """
        return verify(self.root, images)


def open(uri: str | Path | Place) -> Store:
    """Open a finished store.

    Args:
        uri: a folder, or a URI (see `place`).

    Raises:
        InputError: there is no finished store.
    """
    store = Store(place(uri))
    _ = store.totals
    return store
