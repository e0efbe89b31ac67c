"""Job `report` of classification: who is taken for whom, and the most confident mistakes."""

from functools import partial
from typing import Any

from jobs.classification.evaluate import folders
from jobs.context import Context
from pipeline.classification import PictureStats, ReportSpec, illustrate
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names


def run(context: Context) -> dict[str, Any]:
    """Write `classes.txt`, `confusion.svg` and `.png`, `mistakes.png`, and what the page shows."""
    recipe = context.recipe
    spec = ReportSpec(
        judged=tuple(folders(recipe, context.inputs["evaluate"])),
        images=context.inputs[_judged(recipe)] / "images.parquet",
        classes=class_names(recipe.dataset),
        mistakes=recipe.classification.mistakes,
        method=recipe.evaluation.method,
        max_pixels=recipe.features.max_pixels,
    )
    draw = partial(illustrate, folder=context.folder)
    done = context.map("draw", draw, {"pictures": spec}, PictureStats)["pictures"]
    return {"mistakes": done.mistakes}


def _judged(recipe: Recipe) -> str:
    """Return the job that has the images that are judged."""
    return "dataset_train" if recipe.classification.random_splits else "dataset_test"


def needs(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that must be done before."""
    return (_judged(recipe), "evaluate")


VERSION = 3  # since then it writes what became of each image


def reads(recipe: Recipe) -> Any:
    """Return how pictures are drawn."""
    own = recipe.classification
    return [own.mistakes, recipe.evaluation.method, recipe.features.max_pixels]
