"""Job `windows`: candidate windows of one image set, a chunk of images a task."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.context import Context
from pipeline import index
from pipeline.config import Recipe
from pipeline.config.dataset import Role
from pipeline.datasets.records import ImageRecord
from pipeline.store.files import file_sha256
from pipeline.windows.table import THRESHOLDS, ChunkSpec, ChunkStats, write_chunk

COUNTS = "counts.parquet"
CHUNK_IMAGES = 16  # a few seconds of selective search: little is lost, none waits long at the end
MOST_CHUNKS = 10_000  # each is a file whose footer every extractor reads


def run(role: Role, context: Context) -> dict[str, Any]:
    """Write `windows/<chunk>.parquet`, and `counts.parquet` to plan shards with."""
    recipe = context.recipe
    images, objects = index.read_tables(context.inputs[f"dataset_{role}"])
    records = index.Records(images.sort_by("image_id"), objects)
    chunks = _Chunks(records, chunk_images(len(records)))
    write = partial(
        write_chunk,
        settings=recipe.windows,
        seed=recipe.seed,
        folder=context.folder / "windows",
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

    def __init__(self, records: Sequence[ImageRecord], size: int) -> None:
        self._records, self._size = records, size

    def __getitem__(self, name: str) -> ChunkSpec:
        start = int(name) * self._size
        return ChunkSpec(name, tuple(self._records[start : start + self._size]))

    def __iter__(self) -> Iterator[str]:
        return (f"{number:06d}" for number in range(len(self)))

    def __len__(self) -> int:
        return ceil(len(self._records) / self._size)


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
