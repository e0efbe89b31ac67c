"""Job `dataset`: read or make one image set with its labels, and write them as two tables."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jobs.context import Context
from pipeline.config import Recipe
from pipeline.config.dataset import Role
from pipeline.datasets.catalogue import (
    DatasetSpec,
    DatasetStats,
    class_names,
    fingerprint,
    write_index,
)

NOTED = 5  # of what is left out, as many are told one by one


def run(role: Role, context: Context) -> dict[str, Any]:
    """Write `images.parquet` and `objects.parquet`."""
    write = partial(write_index, destination=context.folder)
    items = {"index": dataset_spec(context.recipe, role)}
    done = context.map("read", write, items, DatasetStats)["index"]
    for text in done.skipped[:NOTED]:
        context.note(f"left out: {text}")
    if len(done.skipped) > NOTED:
        context.note(f"and {len(done.skipped) - NOTED:,} more, listed in done.json")
    return asdict(done)


def dataset_spec(recipe: Recipe, role: Role) -> DatasetSpec:
    """Return what decides one of the recipe's image sets."""
    return DatasetSpec(recipe.dataset, recipe.seed, role, recipe.task == "classification")


def reads(role: Role, recipe: Recipe) -> Any:
    """Return the recipe's image set and what its files are now: other files, another folder.

    What is in the other set has no part in it: who adds test images has the same network, the same
    features of training images, and the same classifiers. (Names of classes that the files tell are
    those of the training set.)
    """
    spec = dataset_spec(recipe, role)
    of_one = {"train", "test", "train_images", "test_images"}
    without = {"root", "follow_links", *of_one}
    content = recipe.dataset.model_dump(mode="json", exclude=without)
    made: list[Any] = [content, spec.name, spec.whole_images]
    if recipe.dataset.root is None:
        return [*made, spec.images_made, recipe.seed]
    root = Path(recipe.dataset.root)  # in the digest, because the tables name files under it
    return [*made, str(root), class_names(recipe.dataset), fingerprint(spec)]
