"""Job `report`: test images with their detections, and the curves."""

from functools import partial
from typing import Any

from jobs.context import Context
from jobs.evaluate import outcome_spec
from pipeline.config import Recipe
from pipeline.outcome import PictureStats, illustrate


def run(context: Context) -> dict[str, Any]:
    """Write `pictures/`, the plots, and what the page shows."""
    draw = partial(illustrate, folder=context.folder)
    done = context.map("draw", draw, {"pictures": outcome_spec(context)}, PictureStats)
    return {"pictures": done["pictures"].pictures}


VERSION = 3  # since then it writes what became of each object


def reads(recipe: Recipe) -> Any:
    """Return how pictures are drawn."""
    return [recipe.evaluation.model_dump(mode="json"), recipe.features.max_pixels]


if __name__ == "__main__":
    from jobs.cli import main

    main("report")
