"""Job `evaluate`: average precision of every class."""

from functools import partial
from typing import Any

from jobs.context import Context
from jobs.detect import DETECTIONS
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names, look_alikes
from pipeline.outcome import OutcomeSpec, OutcomeStats, judge
from pipeline.store.files import number


def run(context: Context) -> dict[str, Any]:
    """Write `ap.txt` and `ap.json`, `diagnosis.txt` and `diagnosis.json`."""
    work = partial(judge, folder=context.folder)
    done = context.map("judge", work, {"ap": outcome_spec(context)}, OutcomeStats)["ap"]
    return {
        "mAP": done.mean_ap,
        "mAP_area": done.mean_ap_area,
        "AP_coco": done.coco.get("AP"),
        "ap": done.ap,
        "coco": done.coco,
    }


def outcome_spec(context: Context) -> OutcomeSpec:
    """Return where the run's detections and labels lie, and how they are judged."""
    recipe, dataset = context.recipe, context.inputs["dataset_test"]
    return OutcomeSpec(
        detections=context.inputs["detect"] / DETECTIONS,
        images=dataset / "images.parquet",
        objects=dataset / "objects.parquet",
        classes=class_names(recipe.dataset),
        settings=recipe.evaluation,
        recall=number(context.summary_of("windows_test")["recall_at_0.5"]),
        windows=context.inputs["windows_test"] / "windows",
        max_pixels=recipe.features.max_pixels,
        look_alikes=look_alikes(recipe.dataset),
        judged=context.inputs.get("evaluate"),
    )


VERSION = 2  # since then it writes a diagnosis


def reads(recipe: Recipe) -> Any:
    """Return the measure."""
    return recipe.evaluation.model_dump(mode="json", exclude={"pictures", "picture_score"})


if __name__ == "__main__":
    from jobs.cli import main

    main("evaluate")
