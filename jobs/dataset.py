"""Job `dataset`: read or make the images and labels, and write them as two tables."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jobs.context import Context
from pipeline import index
from pipeline.config import Recipe
from pipeline.datasets.catalogue import DatasetSpec, DatasetStats, write_index


def run(context: Context) -> dict[str, Any]:
    """Write `images.parquet` and `objects.parquet`."""
    recipe = context.recipe
    spec = DatasetSpec(recipe.dataset, recipe.seed)
    write = partial(write_index, destination=context.folder)
    return asdict(context.map("read", write, {"index": spec}, DatasetStats)["index"])


def reads(recipe: Recipe) -> Any:
    """Return the recipe's dataset and what its files are now: other files, another folder."""
    content = recipe.dataset.model_dump(mode="json", exclude={"root"})
    if recipe.dataset.root is None:
        return [content, recipe.seed]
    splits = (recipe.dataset.train, recipe.dataset.test)
    root = Path(recipe.dataset.root)  # in the digest, because the tables name files under it
    return [content, str(root), index.fingerprint(root, splits)]
