"""Job `detect`: score the test windows and keep the best of each class."""

from functools import partial
from typing import Any

from jobs.context import Context
from jobs.extract import STORE
from pipeline import store
from pipeline.config import Recipe
from pipeline.detection import DetectSpec, DetectStats, detect_shard

DETECTIONS = "detections"


def run(context: Context) -> dict[str, Any]:
    """Write `detections/<shard>.parquet`."""
    features = store.open(context.inputs["extract_test"] / STORE)
    spec = DetectSpec(features, context.inputs["mine"], context.recipe.detection)
    detect = partial(detect_shard, spec, destination=context.folder / DETECTIONS)
    shards = {record.shard_id: record.shard_id for record in features.records}
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
