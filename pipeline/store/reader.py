"""Reading a store: rows, columns and conditions, SQL, and the proof that it is whole."""

import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store.bounds import Bounds
from pipeline.store.entries import Lines, Manifest, ShardEntry, Totals
from pipeline.store.labels import read_labels
from pipeline.store.manifest import SETTINGS, read_manifest
from pipeline.store.map_spec import read_map_spec
from pipeline.store.place import Place, open_parquet, place
from pipeline.store.records import ShardRecord, from_json, read_record
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

    def _repr_html_(self) -> str:
        from pipeline.report import notebook  # what draws reads stores

        return notebook.store(self)

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
        content = from_json(self.root.read(SETTINGS))
        if content is not None and not isinstance(content, dict):
            raise InputError(f"{self.root}/{SETTINGS} is damaged: see spp verify {self.root}")
        return content or {}

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

    def images_named(self, image_ids: Collection[str]) -> pa.Table:
        """Return the rows of `images` of these images, those that could not be read among them."""
        return read_labels(self.root, "images.parquet", image_ids)

    def objects_named(self, image_ids: Collection[str]) -> pa.Table:
        """Return the rows of `objects` of these images."""
        return read_labels(self.root, "objects.parquet", image_ids)

    def image(self, image_id: str) -> dict[str, Any] | None:
        """Return the row of `images` of one image, its `file` made absolute; None: there is none.

        Only the row groups that may have it are read.

        Raises:
            InputError: the table is damaged, or names no file.
        """
        found = read_labels(self.root, "images.parquet", [image_id]).to_pylist()
        if not found:
            return None
        file = found[0].get("file")
        if not isinstance(file, str) or "\0" in file:
            raise InputError(f"{self.root}/images.parquet names no file of image {image_id}")
        # Files of a run directory start from the store, which may have gone along with it.
        return {**found[0], "file": os.path.join(str(self.root), file)}

    def shard_of(self, image_id: str) -> int | None:
        """Return the place in `shards` of the shard that has this image; None: no shard has it."""
        # Shards divide the sorted images into ranges.
        place = bisect_right(self.shards, image_id, key=lambda entry: entry.first or "") - 1
        if place < 0 or image_id not in self.record(self.shards[place].shard_id).images:
            return None
        return place

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

    def home_of(self, shard_id: str) -> "Store":
        """Return the store that has a shard's files: this one, but for views of it."""
        del shard_id
        return self

    def sql(
        self,
        query: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        classifiers: Sequence[Any] = (),
        detections: pa.Table | None = None,
        vectors: Any = None,
        bounds: Bounds | None = None,
    ) -> pa.Table:
        """Answer a query over `windows`, `images`, `objects` and `detections`, with DuckDB.

        Reads nothing but this store, and writes nothing. Vectors are read only for rows that are
        left after filters, stored or pooled from maps. `vector` in the answer is a list of float32;
        in the query it is for the functions

        - `vec(vector)`, which gives `FLOAT[n]` for DuckDB's own functions over lists,
        - `dot(vector, other)` and `cosine(vector, other)`, 0 for a vector of zeros; `other` is a
          vector of a row, or a parameter,
        - `score('zebra', vector)`, as `Classifiers.score`,

        and `iou(x_min, y_min, x_max, y_max, x_min, y_min, x_max, y_max)` is of two boxes (SPEC §1).

        Without them `vector` only names its row: `=`, DISTINCT, GROUP BY, ORDER BY, min and max go
        by that name, and not by the numbers, and a cast to text shows it. Use `vec(vector)` there.

        Args:
            query: one SELECT.
            parameters: by name for `$name`, or in order for `?`; an array is a vector.
            classifiers: of `pipeline.learning.classifiers`; of two that know a class the last.
            detections: the table of that name, such as `pipeline.detection.read_detections` gives.
            vectors: the store's `Vectors`, for who asks often: their files stay open.
            bounds: what it may take; None: the time that it needs, and what DuckDB takes by itself.

        Raises:
            InputError: the query is not one SELECT, it fails, or it takes more than the bounds;
                classifiers do not fit the store.
        """
        from pipeline.store.sql import asking  # which reads stores

        with asking(self, query, parameters, classifiers, detections, vectors, bounds) as answer:
            return pa.Table.from_batches(list(answer), answer.schema)

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
