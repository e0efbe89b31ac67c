"""Job `windows`: candidate windows of one image set, a chunk of images a task."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.context import Context
from pipeline import index
from pipeline.config import Recipe
from pipeline.store.files import file_sha256
from pipeline.windows.table import ChunkSpec, ChunkStats, write_chunk

COUNTS = "counts.parquet"
CHUNK_IMAGES = 16  # a few seconds of selective search: little is lost, none waits long at the end


def run(split: str, context: Context) -> dict[str, Any]:
    """Write `windows/<chunk>.parquet`, and `counts.parquet` to plan shards with."""
    recipe, dataset = context.recipe, context.inputs["dataset"]
    name = getattr(recipe.dataset, split)
    images, objects = (
        index.of_split(pq.read_table(dataset / f"{table}.parquet"), name)
        for table in ("images", "objects")
    )
    records = sorted(index.records(images, objects), key=lambda record: record.image_id)
    chunks = {
        f"{start // CHUNK_IMAGES:06d}": ChunkSpec(
            f"{start // CHUNK_IMAGES:06d}", tuple(records[start : start + CHUNK_IMAGES])
        )
        for start in range(0, len(records), CHUNK_IMAGES)
    }
    write = partial(
        write_chunk,
        settings=recipe.windows,
        seed=recipe.seed,
        folder=context.folder / "windows",
        max_pixels=recipe.features.max_pixels,
    )
    done = list(context.map("windows", write, chunks, ChunkStats).values())
    counts = {image_id: rows for stats in done for image_id, rows in stats.windows.items()}
    table = pa.table({"image_id": list(counts), "windows": list(counts.values())})
    pq.write_table(table, context.folder / COUNTS)
    objects_found = sum(stats.objects for stats in done)
    covered = [sum(each) for each in zip(*(stats.covered for stats in done), strict=True)]
    return {
        "images": len(records),
        "windows": sum(counts.values()) - len(objects),
        "recall_at_0.5": covered[0] / max(objects_found, 1),
        "recall_at_0.7": covered[1] / max(objects_found, 1),
        "unreadable": {k: v for stats in done for k, v in stats.unreadable.items()},
    }


def read_counts(folder: Path) -> Counter[str]:
    """Return how many windows each image has, its objects among them: 0 where it is not named."""
    counts = pq.read_table(folder / COUNTS).to_pydict()
    return Counter(dict(zip(counts["image_id"], counts["windows"], strict=True)))


def reads(recipe: Recipe) -> Any:
    """Return the recipe's windows, and the content of the file they are imported from."""
    content = recipe.windows.model_dump(mode="json", exclude={"path"})
    path = recipe.windows.path
    held = file_sha256(path) if path is not None and path.is_file() else str(path)
    return [content, recipe.seed, held, recipe.features.max_pixels]


if __name__ == "__main__":
    from jobs.cli import main

    main("windows")
