"""Job `dataset`: read or make the images and labels, and write them as two tables."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jobs.context import Context
from pipeline.config import Recipe
from pipeline.datasets.catalogue import (
    DatasetSpec,
    DatasetStats,
    class_names,
    fingerprint,
    write_index,
)

NOTED = 5  # of what is left out, as many are told one by one


def run(context: Context) -> dict[str, Any]:
    """Write `images.parquet` and `objects.parquet`."""
    write = partial(write_index, destination=context.folder)
    items = {"index": dataset_spec(context.recipe)}
    done = context.map("read", write, items, DatasetStats)["index"]
    for text in done.skipped[:NOTED]:
        context.note(f"left out: {text}")
    if len(done.skipped) > NOTED:
        context.note(f"and {len(done.skipped) - NOTED:,} more, listed in done.json")
    return asdict(done)


def dataset_spec(recipe: Recipe) -> DatasetSpec:
    """Return what decides the recipe's dataset."""
    whole_images = recipe.task == "classification"
    return DatasetSpec(recipe.dataset, recipe.seed, whole_images, recipe.image_sets)


def reads(recipe: Recipe) -> Any:
    """Return the recipe's dataset and what its files are now: other files, another folder."""
    spec = dataset_spec(recipe)
    content = recipe.dataset.model_dump(mode="json", exclude={"root"})
    made: list[Any] = [content, list(spec.splits), spec.whole_images]
    if recipe.dataset.root is None:
        return [*made, recipe.seed]
    root = Path(recipe.dataset.root)  # in the digest, because the tables name files under it
    return [*made, str(root), class_names(recipe.dataset), fingerprint(spec)]
