"""What a page shows of a run's detections: gathered once, where they are at hand, and kept."""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from pipeline.evaluation import Evaluation
from pipeline.report.page import galleries, kept, thumbnails
from pipeline.report.page.charts import curve_corners
from pipeline.report.page.content import Chart, ClassResult, Line, Strip

STEPS = tuple(0.5 + 0.05 * k for k in range(11))  # of IoU
SAME = 1e-9  # by which sums of steps round


@dataclass(frozen=True)
class Results:
    """What became of each class, with thumbnails."""

    classes: list[ClassResult]
    mean_ap: float
    recall: Chart
    """Of the windows, over the IoU that is asked of them."""
    galleries: dict[str, list[Strip]]
    unopened: int
    """Images that were chosen for a thumbnail, and could not be decoded."""


def gather(
    evaluation: Evaluation,
    detections: pa.Table,
    objects: pa.Table,
    window_ious: Float[np.ndarray, " objects"],
    diagnosis: Mapping[str, Any],
    load: thumbnails.Load,
    similar: Collection[Collection[Hashable]] = (),
) -> Results:
    """Return what the page shows of detections.

    Args:
        evaluation: of these detections, with the classes in their order.
        detections: all.
        objects: that there are.
        window_ious: of each object, its highest IoU with a candidate window.
        diagnosis: what `diagnose` gives, by class, as JSON has it.
        load: gives an image by its id, RGB.
        similar: sets of classes that look alike.
    """
    classes = [str(name) for name in evaluation.ap]
    chosen = galleries.choose(
        detections, objects, evaluation.matches, classes=classes, similar=similar
    )
    strips, unopened = thumbnails.cut(chosen, load)
    made = [_class_result(name, evaluation, diagnosis.get(name, {})) for name in classes]
    return Results(made, evaluation.mean_ap, _recall(window_ious, objects), strips, unopened)


def read(folder: Path) -> Results:
    """Return what `kept.keep` wrote; raises what `kept.read` does."""
    return kept.read(folder, Results)


def _class_result(name: str, evaluation: Evaluation, told: Mapping[str, Any]) -> ClassResult:
    curve = evaluation.curves[name]
    without, ap = told.get("ap_without", {}), told.get("ap")
    gains = {k: each - ap for k, each in without.items() if each is not None and ap is not None}
    bare = [each.get("uncovered") for each in told.get("missed", {}).values()]
    return ClassResult(
        name,
        evaluation.ap[name],
        curve_corners(curve.recall, curve.precision),
        detections=len(curve.scores),
        objects=curve.positives,
        found=int(curve.true_positive.sum()),
        kinds=told.get("best", {}),
        gains=gains,
        uncovered=None if not bare or None in bare else sum(bare),
    )


def _recall(window_ious: Float[np.ndarray, " objects"], objects: pa.Table) -> Chart:
    counted = window_ious[~objects["difficult"].to_numpy(zero_copy_only=False)]
    steps = STEPS if len(counted) else ()
    points = tuple((iou, float((counted >= iou - SAME).mean())) for iou in steps)
    line = Line("objects that a window covers", points)
    return Chart("Recall of the windows", "IoU", (line,), highest=1.0)
