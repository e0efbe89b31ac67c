"""Job `windows`: candidate windows of one image set, a chunk of images a task."""

from collections.abc import Iterator, Mapping
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import earlier
from jobs.context import Context
from pipeline import index
from pipeline.config import Recipe
from pipeline.config.dataset import Role
from pipeline.store.files import file_sha256
from pipeline.store.manifest import TABLES
from pipeline.windows.table import THRESHOLDS, ChunkSpec, ChunkStats, write_chunk

COUNTS, WINDOWS = "counts.parquet", "windows"
CHUNK_IMAGES = 16  # a few seconds of selective search: little is lost, none waits long at the end
MOST_CHUNKS = 10_000  # each is a file whose footer every extractor reads


def run(role: Role, context: Context) -> dict[str, Any]:
    """Write `windows/<chunk>.parquet`, and `counts.parquet` to plan shards with."""
    recipe = context.recipe
    images, objects = index.read_tables(context.inputs[f"dataset_{role}"])
    images = images.sort_by("image_id")
    records = index.Records(images, objects)
    chunks = _Chunks(records, chunk_images(len(records)), _Earlier(context, images))
    write = partial(
        write_chunk,
        settings=recipe.windows,
        seed=recipe.seed,
        folder=context.folder / WINDOWS,
        max_pixels=recipe.features.max_pixels,
    )
    done = list(context.map("windows", write, chunks, ChunkStats).values())
    counts = {image_id: rows for stats in done for image_id, rows in stats.windows.items()}
    columns = [pa.array(counts.keys(), pa.string()), pa.array(counts.values(), pa.int64())]
    table = pa.table(columns, ["image_id", "windows"])
    pq.write_table(table, context.folder / COUNTS)
    objects_found = sum(stats.objects for stats in done)
    covered = [sum(each) for each in zip(*(stats.covered for stats in done), strict=True)]
    whole = recipe.task == "classification"
    recalls = {
        f"recall_at_{threshold}": share / objects_found if objects_found else None
        for threshold, share in zip(THRESHOLDS, covered, strict=True)
    }
    return {
        "images": len(records),
        "windows": sum(counts.values()) - (0 if whole else len(objects)),
        **(recalls if not whole else {}),
        "unreadable": {k: v for stats in done for k, v in stats.unreadable.items()},
    }


def chunk_images(images: int) -> int:
    """Return how many images a task makes the windows of."""
    return max(CHUNK_IMAGES, ceil(images / MOST_CHUNKS))


class _Chunks(Mapping[str, ChunkSpec]):
    """Neighbouring images, by the name of their chunk; built when it is their turn."""

    def __init__(self, records: index.Records, size: int, earlier: "_Earlier") -> None:
        self._records, self._size, self._earlier = records, size, earlier

    def __getitem__(self, name: str) -> ChunkSpec:
        start = int(name) * self._size
        records = self._records[start : start + self._size]
        tables = (self._earlier.table(start + place) for place in range(len(records)))
        known = zip((record.image_id for record in records), tables, strict=True)
        return ChunkSpec(name, records, {image_id: table for image_id, table in known if table})

    def __iter__(self) -> Iterator[str]:
        return map(_chunk_name, range(len(self)))

    def __len__(self) -> int:
        return ceil(len(self._records) / self._size)


def _chunk_name(number: int) -> str:
    return f"{number:06d}"


class _Earlier:
    """The tables of earlier jobs that have windows of the same images."""

    def __init__(self, context: Context, images: pa.Table) -> None:
        self._folders: list[Path] = []
        self._which = np.full(len(images), -1, np.int32)
        self._chunks = np.zeros(len(images), np.int64)
        if context.recipe.windows.method != "selective_search":
            return  # others cost less than reading what there was
        asked = (context.folder, context.settings, lambda: images, _listed)
        for each in earlier.met(*asked):
            self._which[each.rows] = len(self._folders)
            self._chunks[each.rows] = each.places // chunk_images(each.images)
            self._folders.append(each.folder / WINDOWS)
        if self._folders:
            count = int(np.count_nonzero(self._which >= 0))
            jobs = ", ".join(folder.parent.name for folder in self._folders)
            context.note(f"{count:,} of {len(images):,} images have their windows from {jobs}")

    def table(self, image: int) -> Path | None:
        """Return the table that has an image's windows, by its place among the sorted ones."""
        which = self._which[image]
        if which < 0:
            return None
        return self._folders[which] / f"{_chunk_name(self._chunks[image])}.parquet"


def _listed(folder: Path, record: dict[str, Any]) -> Path:
    """Return the table of the images that a done job made the windows of."""
    return folder.parent / record["needs"][0] / TABLES[0]


def read_counts(folder: Path, image_ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return how many windows each image has, its objects among them: 0 where it is not named."""
    counts = pq.read_table(folder / COUNTS)
    place = pc.index_in  # pyright: ignore[reportAttributeAccessIssue]
    places = place(image_ids, counts["image_id"])
    return pc.fill_null(counts["windows"].take(places), 0)


def reads(recipe: Recipe) -> Any:
    """Return the recipe's windows, and the content of the file they are imported from."""
    content = recipe.windows.model_dump(mode="json", exclude={"path"})
    path = recipe.windows.path
    held = file_sha256(path) if path is not None and path.is_file() else str(path)
    return [content, recipe.seed, held, recipe.features.max_pixels]


if __name__ == "__main__":
    from jobs.cli import main

    main("windows")
