"""From the detections of a run to what people read: numbers, tables, curves, pictures."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from pydantic import TypeAdapter

from pipeline import config, images, index
from pipeline.detection import read_detections
from pipeline.errors import InputError
from pipeline.evaluation import (
    ClassDiagnosis,
    Evaluation,
    diagnose,
    evaluate_coco,
    evaluate_detections,
)
from pipeline.report import format_ap_table, format_diagnosis, page, write_pictures
from pipeline.report.page import galleries
from pipeline.report.page.charts import envelope
from pipeline.store.files import write_json
from pipeline.windows import window_ious


@dataclass(frozen=True)
class OutcomeSpec:
    """Where a run's detections and labels lie, and how they are judged."""

    detections: Path
    images: Path
    objects: Path
    classes: tuple[str, ...]
    settings: config.Evaluation
    recall: float
    """Of the windows at IoU 0.5: without box regression no AP there can be much higher."""
    windows: Path
    """Folder of their tables."""
    look_alikes: tuple[tuple[str, ...], ...] = ()
    """Classes that are easily taken for each other."""


@dataclass(frozen=True)
class OutcomeStats:
    """What `judge` measured."""

    mean_ap: float | None
    mean_ap_area: float | None
    coco: dict[str, float | None]
    ap: dict[str, float | None]
    detections: int


@dataclass(frozen=True)
class PictureStats:
    """What `illustrate` drew."""

    pictures: int


def judge(spec: OutcomeSpec, folder: Path) -> OutcomeStats:
    """Measure AP by every method, and what it lacks.

    Writes `ap.txt` and `ap.json` into `folder`, and the reasons as `diagnosis.txt` and `.json`.
    """
    detections, images_table, objects = _tables(spec)
    image_ids = images_table["image_id"].to_pylist()
    evaluation = _evaluate(spec, detections, objects, image_ids, spec.settings.method)
    area = _evaluate(spec, detections, objects, image_ids, "area")
    coco = evaluate_coco(detections, objects, image_ids=image_ids)
    stats = OutcomeStats(
        mean_ap=_number(evaluation.mean_ap),
        mean_ap_area=_number(area.mean_ap),
        coco={name: _number(value) for name, value in coco.items()},
        ap={str(name): _number(value) for name, value in evaluation.ap.items()},
        detections=len(detections),
    )
    folder.mkdir(parents=True, exist_ok=True)
    table = format_ap_table(evaluation, window_recall=spec.recall)
    (folder / "ap.txt").write_text(table + "\n", encoding="utf-8")
    write_json(folder / "ap.json", stats.__dict__)
    _diagnose(spec, folder, detections, objects, image_ids)
    return stats


def _diagnose(
    spec: OutcomeSpec,
    folder: Path,
    detections: pa.Table,
    objects: pa.Table,
    image_ids: Sequence[str],
) -> None:
    told = diagnose(
        detections,
        objects,
        iou=spec.settings.iou,
        method=spec.settings.method,
        classes=spec.classes,
        image_ids=image_ids,
        similar=spec.look_alikes,
        window_ious=window_ious(spec.windows, objects).tolist(),
    )
    measure = f"AP in percent, {spec.settings.method}, IoU ≥ {spec.settings.iou:g}.\n\n"
    (folder / "diagnosis.txt").write_text(measure + format_diagnosis(told), encoding="utf-8")
    write_json(folder / "diagnosis.json", {str(k): _plain(asdict(one)) for k, one in told.items()})


def illustrate(spec: OutcomeSpec, folder: Path) -> PictureStats:
    """Draw test images with their detections, and the curves of every class.

    Writes `pictures/`, `curves` and `bars` as SVG and PNG, and for the page `results.json`: who
    runs the DAG should not have to hold all detections.
    """
    from pipeline.report.plots import write_plots  # see there

    detections, images_table, objects = _tables(spec)
    image_ids = images_table["image_id"].to_pylist()
    write_plots(folder, _evaluate(spec, detections, objects, image_ids, spec.settings.method))
    files = index.files(images_table)
    chosen = _evenly(image_ids, spec.settings.pictures)
    pictures = write_pictures(
        folder / "pictures",
        [image_id for image_id in chosen if _is_readable(files[image_id])],
        lambda image_id: images.load(files[str(image_id)]),
        detections,
        objects,
        iou=spec.settings.iou,
        min_score=spec.settings.picture_score,
    )
    # For us alone: JSON as Python has it, with NaN.
    (folder / RESULTS).write_text(json.dumps(asdict(_results(spec))), encoding="utf-8")
    return PictureStats(len(pictures) - 1)


@dataclass(frozen=True)
class Results:
    """What a page shows of a run's detections."""

    classes: list[page.ClassResult]
    mean_ap: float
    recall: page.Chart
    """Of the windows, over the IoU that is asked of them."""
    galleries: dict[str, list[page.Shelf]]


RESULTS = "results.json"


def read_results(folder: Path) -> Results:
    """Return what `illustrate` kept for the page.

    Raises:
        InputError: it is not there, or another version's.
    """
    file = folder / RESULTS
    try:
        return _adapter().validate_python(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:  # of pydantic, too
        first = str(error).partition("\n")[0]
        raise InputError(f"{file} cannot be read ({first}): run the recipe again") from None


@cache
def _adapter() -> Any:
    return TypeAdapter(Results)


def _results(spec: OutcomeSpec) -> Results:
    """Return what became of each class, with thumbnails."""
    detections, images_table, objects = _tables(spec)
    image_ids = images_table["image_id"].to_pylist()
    evaluation = _evaluate(spec, detections, objects, image_ids, spec.settings.method)
    covered = window_ious(spec.windows, objects)
    judged: dict[str, Any] = {
        "iou": spec.settings.iou,
        "image_ids": image_ids,
        "similar": spec.look_alikes,
    }
    told = diagnose(
        detections,
        objects,
        method=spec.settings.method,
        classes=spec.classes,
        window_ious=covered.tolist(),
        **judged,
    )
    files = index.files(images_table)
    chosen = galleries.choose(detections, objects, classes=spec.classes, **judged)
    return Results(
        [_class_result(name, evaluation, told.get(name)) for name in spec.classes],
        evaluation.mean_ap,
        _recall(covered, objects),
        galleries.cut(chosen, lambda image_id: images.load(files[str(image_id)])),
    )


def _class_result(
    name: str, evaluation: Evaluation, told: ClassDiagnosis | None
) -> page.ClassResult:
    curve = evaluation.curves[name]
    bare = [None] if told is None else [each.uncovered for each in told.missed.values()]
    return page.ClassResult(
        name,
        evaluation.ap[name],
        envelope(curve.recall, curve.precision),
        detections=len(curve.scores),
        objects=curve.positives,
        found=int(curve.true_positive.sum()),
        kinds={} if told is None else told.best,
        gains={} if told is None else {k: ap - told.ap for k, ap in told.ap_without.items()},
        uncovered=None if None in bare else sum(each or 0 for each in bare),
    )


def _recall(covered: Float[np.ndarray, " objects"], objects: pa.Table) -> page.Chart:
    counted = covered[~objects["difficult"].to_numpy(zero_copy_only=False)]
    places = [0.5 + 0.05 * k for k in range(11)]
    shares = [
        (iou, float((counted >= iou - 1e-9).mean()) if len(counted) else 0.0) for iou in places
    ]
    line = page.Line("objects that a window covers", tuple(shares))
    return page.Chart("Recall of the windows", "IoU", (line,), highest=1.0)


def _tables(spec: OutcomeSpec) -> tuple[pa.Table, pa.Table, pa.Table]:
    return (
        read_detections(spec.detections),
        pq.read_table(spec.images),
        pq.read_table(spec.objects),
    )


def _evaluate(
    spec: OutcomeSpec,
    detections: pa.Table,
    objects: pa.Table,
    image_ids: Sequence[str],
    method: str,
) -> Evaluation:
    return evaluate_detections(
        detections,
        objects,
        iou=spec.settings.iou,
        method=method,
        classes=spec.classes,
        image_ids=image_ids,
    )


def _is_readable(path: Path) -> bool:
    """Whether there is a picture to draw on; else the extraction has quarantined it."""
    try:
        images.load(path)
    except (OSError, images.UndecodableImage):
        return False
    return True


def _evenly(image_ids: Sequence[str], count: int) -> list[str]:
    """`count` ids spread over the whole list, so that the pictures are not all of one kind."""
    places = np.linspace(0, len(image_ids) - 1, min(count, len(image_ids))).round()
    return [image_ids[int(place)] for place in places]


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """Return nested content without numbers that JSON does not have."""
    return {
        key: _plain(value)
        if isinstance(value, dict)
        else (_number(value) if isinstance(value, float) else value)
        for key, value in content.items()
    }


def _number(value: float) -> float | None:
    """JSON has no word for "not a number"."""
    return None if math.isnan(value) else float(value)
