"""Job `detect`: score the test windows and keep the best of each class."""

from functools import partial
from typing import Any

from jobs import extractions
from jobs.context import Context
from pipeline import store
from pipeline.config import Recipe
from pipeline.detection import DetectSpec, DetectStats, detect_shard

DETECTIONS = "detections"


def run(context: Context) -> dict[str, Any]:
    """Write `detections/<shard>.parquet`."""
    recipe, features = context.recipe, store.open(context.store_of("extract_test"))
    regressors, beside = None, None
    if recipe.regression.enabled:
        regressors = context.inputs["regress"]
        if (name := extractions.pool5(recipe, "test")) != "extract_test":
            beside = store.open(context.store_of(name))
    spec = DetectSpec(features, context.inputs["mine"], recipe.detection, regressors, beside)
    detect = partial(detect_shard, spec, destination=context.folder / DETECTIONS)
    shards = {entry.shard_id: entry.shard_id for entry in features.shards}
    done = context.map("detect", detect, shards, DetectStats).values()
    return {
        "images": sum(stats.images for stats in done),
        "detections": sum(stats.detections for stats in done),
    }


def needs(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that must be done before."""
    regression = ("regress", extractions.pool5(recipe, "test")) if recipe.regression.enabled else ()
    return tuple(dict.fromkeys(("extract_test", "mine", *regression)))


def reads(recipe: Recipe) -> Any:
    """Return the settings of detection."""
    return recipe.detection.model_dump(mode="json")


if __name__ == "__main__":
    from jobs.cli import main

    main("detect")
