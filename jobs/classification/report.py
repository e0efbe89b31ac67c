"""Job `report` of classification: who is taken for whom, and the most confident mistakes."""

from functools import partial
from typing import Any

from jobs.classification.evaluate import folders
from jobs.context import Context
from pipeline.classification import PictureStats, ReportSpec, illustrate
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names


def run(context: Context) -> dict[str, Any]:
    """Write `classes.txt`, `confusion.svg` and `.png`, and `mistakes.png`."""
    recipe = context.recipe
    splits = recipe.classification.random_splits
    spec = ReportSpec(
        judged=tuple(folders(recipe, context.inputs["evaluate"])),
        images=context.inputs["dataset"] / "images.parquet",
        split=recipe.dataset.train if splits else recipe.dataset.test,
        classes=class_names(recipe.dataset),
        mistakes=recipe.classification.mistakes,
        method=recipe.evaluation.method,
    )
    draw = partial(illustrate, folder=context.folder)
    done = context.map("draw", draw, {"pictures": spec}, PictureStats)["pictures"]
    return {"mistakes": done.mistakes}


def reads(recipe: Recipe) -> Any:
    """Return how pictures are drawn."""
    return [recipe.classification.mistakes, recipe.evaluation.method]
