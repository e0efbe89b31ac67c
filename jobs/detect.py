"""Job `detect`: score the test windows and keep the best of each class."""

from functools import partial
from typing import Any

from jobs.context import Context
from pipeline import store
from pipeline.config import Recipe
from pipeline.detection import DetectSpec, DetectStats, detect_shard

DETECTIONS = "detections"


def run(context: Context) -> dict[str, Any]:
    """Write `detections/<shard>.parquet`."""
    features = store.open(context.store_of("extract_test"))
    spec = DetectSpec(features, context.inputs["mine"], context.recipe.detection)
    detect = partial(detect_shard, spec, destination=context.folder / DETECTIONS)
    shards = {entry.shard_id: entry.shard_id for entry in features.shards}
    done = context.map("detect", detect, shards, DetectStats).values()
    return {
        "images": sum(stats.images for stats in done),
        "detections": sum(stats.detections for stats in done),
    }


def reads(recipe: Recipe) -> Any:
    """Return the settings of detection."""
    return recipe.detection.model_dump(mode="json")


if __name__ == "__main__":
    from jobs.cli import main

    main("detect")
