"""From the detections of a run to what people read: numbers, tables, curves, pictures."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import config, images, index
from pipeline.detection import read_detections
from pipeline.evaluation import Evaluation, diagnose, evaluate_coco, evaluate_detections
from pipeline.report import format_ap_table, format_diagnosis, write_pictures
from pipeline.report.page import kept, per_object, results
from pipeline.store.files import read_json, write_json
from pipeline.windows import window_ious

DIAGNOSIS = "diagnosis.json"


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
    max_pixels: int
    """Of an image, as when it was extracted."""
    look_alikes: tuple[tuple[str, ...], ...] = ()
    """Classes that are easily taken for each other."""
    judged: Path | None = None
    """Folder of what `judge` wrote, for `illustrate`."""


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
    write_json(folder / DIAGNOSIS, {str(k): _plain(asdict(one)) for k, one in told.items()})


def illustrate(spec: OutcomeSpec, folder: Path) -> PictureStats:
    """Draw test images with their detections, and the curves of every class.

    Writes `pictures/`, `curves` and `bars` as SVG and PNG, and for the page `results.json` and
    `per_object.parquet`: who runs the DAG should not have to hold all detections.
    """
    from pipeline.report.plots import write_plots  # see there

    detections, images_table, objects = _tables(spec)
    image_ids = images_table["image_id"].to_pylist()
    evaluation = _evaluate(spec, detections, objects, image_ids, spec.settings.method)
    write_plots(folder, evaluation)
    load = images.loader(index.files(images_table), spec.max_pixels)
    chosen = _evenly(image_ids, spec.settings.pictures)
    pictures = write_pictures(
        folder / "pictures",
        [image_id for image_id in chosen if _is_readable(load, image_id)],
        load,
        detections,
        objects,
        iou=spec.settings.iou,
        min_score=spec.settings.picture_score,
    )
    told = results.gather(
        evaluation,
        detections,
        objects,
        window_ious(spec.windows, objects),
        {} if spec.judged is None else read_json(spec.judged / DIAGNOSIS) or {},
        load,
        spec.look_alikes,
    )
    per_object.keep(per_object.of_detections(detections, objects, evaluation.matches), folder)
    kept.keep(told, folder)
    return PictureStats(len(pictures) - 1)


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


def _is_readable(load: Callable[[Hashable], object], image_id: str) -> bool:
    """Whether there is a picture to draw on; else the extraction has quarantined it."""
    try:
        load(image_id)
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
