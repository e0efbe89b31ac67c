"""Job `combine`: one set of detections from the scored windows of several models (paper §4.4)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jobs.context import Context
from jobs.detect import DETECTIONS
from pipeline import store
from pipeline.combination import CombineSpec, CombineStats, combine_shard, spans
from pipeline.config import Recipe
from pipeline.errors import RecipeError


def run(scored: tuple[str, ...], extracted: str, context: Context) -> dict[str, Any]:
    """Write `detections/<shard>.parquet`.

    Args:
        scored: the jobs that scored windows, one a model.
        extracted: the job that made the first model's store.
        context: of the job; its recipe is the first model's.
    """
    held = store.open(context.store_of(extracted))
    tables = tuple(spans(context.inputs[name] / DETECTIONS) for name in scored)
    spec = CombineSpec(held, tables, context.recipe.detection.nms_iou)
    work = partial(combine_shard, spec, destination=context.folder / DETECTIONS)
    shards = {entry.shard_id: entry.shard_id for entry in held.shards}
    done = context.map("combine", work, shards, CombineStats).values()
    return {
        "models": len(scored),
        "images": sum(stats.images for stats in done),
        "windows": sum(stats.windows for stats in done),
        "detections": sum(stats.detections for stats in done),
    }


def reads(recipe: Recipe) -> Any:
    """Return when windows are dropped."""
    return recipe.detection.nms_iou


def scoring(recipe: Recipe) -> Recipe:
    """Return the recipe whose detections are all the windows that this one suppresses among."""
    keep_all = recipe.detection.model_copy(update={"nms_iou": 1.0})
    return recipe.model_copy(update={"detection": keep_all})


def require_alike(recipes: Mapping[str, Recipe]) -> None:
    """Check that detections of some recipes can be pooled.

    Raises:
        RecipeError: they are of other images, judged otherwise, or of one model only.
    """
    if len(recipes) < 2:
        raise RecipeError("a combination takes two models or more: name another recipe")
    for name, recipe in recipes.items():
        if recipe.task != "detection":
            raise RecipeError(f"{name} classifies whole images: detectors can be combined")
    (first, held), *others = recipes.items()
    for name, recipe in others:
        for section in ("dataset", "detection", "evaluation"):
            mine, theirs = (getattr(each, section) for each in (held, recipe))
            if mine != theirs:
                field = next(
                    k for k in type(mine).model_fields if getattr(mine, k) != getattr(theirs, k)
                )
                raise RecipeError(
                    f"{first} has {section}.{field} = {getattr(mine, field)!r}, and {name} "
                    f"{getattr(theirs, field)!r}: only what is alike there can be combined"
                )
