"""COCO's average precisions, by the maintained evaluator ``faster-coco-eval``."""

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float, Int

from pipeline.evaluation.matching import class_index, known_images
from pipeline.evaluation.ranking import groups
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    TableLike,
    read_detections,
    read_ground_truth,
)

# What of the precisions [ious recalls classes areas limits] each figure is the mean of: IoU .50 and
# .75 are the first and the sixth, areas all, small, medium, large, and the last limit is 100.
FIGURES = {
    "AP": np.s_[:, :, :, 0, -1],
    "AP50": np.s_[0, :, :, 0, -1],
    "AP75": np.s_[5, :, :, 0, -1],
    "AP_small": np.s_[:, :, :, 1, -1],
    "AP_medium": np.s_[:, :, :, 2, -1],
    "AP_large": np.s_[:, :, :, 3, -1],
}
Precisions: TypeAlias = Float[np.ndarray, "ious recalls classes areas limits"]


def evaluate_coco(
    detections: TableLike,
    ground_truth: TableLike,
    image_ids: Iterable[Hashable] | None = None,
) -> dict[str, float]:
    """COCO's six average precisions on the same tables as ``evaluate_detections`` reads.

    A difficult object becomes a COCO crowd, the only kind of object COCO ignores: detections on
    it count neither way. Unlike VOC, a crowd takes any number of detections, and overlap with it
    is measured against the detection's own area. COCO also keeps only the 100 best detections
    of a class in an image, and interpolates at 101 recalls, so figures differ from VOC's.

    Args:
        detections: columns ``image_id, class, score`` and the box.
        ground_truth: columns ``image_id, class``, the box, optionally ``difficult``.
        image_ids: all images that were searched; needed when some have no objects.

    Returns:
        ``AP`` (mean over IoU .50, .55 … .95), ``AP50``, ``AP75``, and ``AP_small``,
        ``AP_medium``, ``AP_large`` (objects below 32², up to 96², above, in square pixels).
        In 0..1; nan where no class has an object to be found.

    Raises:
        InputError: a malformed table or an unknown image.
    """
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    images = known_images(found, truth, image_ids)
    # Class after class, for classes do not meet in any of its sums: the evaluator takes a
    # record of 1.4 kB for each row, and those of one class at a time are enough.
    judged = [_judge(*rows) for rows in _by_class(found, truth, images)]
    if not judged:
        return dict.fromkeys(FIGURES, float("nan"))
    precisions = np.concatenate(judged, axis=2)
    return {name: _mean(precisions[part]) for name, part in FIGURES.items()}


def _mean(precisions: Float[np.ndarray, "..."]) -> float:
    """Mean over the classes that have something to be found; COCO writes -1 for the others."""
    known = precisions[precisions > -1]
    return float(known.mean()) if known.size else float("nan")


def _by_class(
    found: Detections, truth: GroundTruth, images: dict[Hashable, int]
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Each class's detections and objects as COCO's records; classes without objects are left out.

    A class that no object has cannot have an average precision; COCO leaves it out as well.
    """
    index = class_index(found, truth)
    found_images, object_images = found.images.within(images), truth.images.within(images)
    of_class = groups(found.classes.within(index), len(index))
    objects = groups(truth.classes.within(index), len(index))
    for rows, mine in zip(of_class, objects, strict=True):
        if len(mine):
            detected = _records(found_images[rows], found.boxes[rows])
            for record, score in zip(detected, found.scores[rows].tolist(), strict=True):
                record["score"] = score
            labelled = _records(object_images[mine], truth.boxes[mine])
            for record, crowd in zip(labelled, truth.difficult[mine].tolist(), strict=True):
                record["iscrowd"] = int(crowd)
            yield detected, labelled


def _records(
    images: Int[np.ndarray, " rows"], boxes: Float[np.ndarray, "rows 4"]
) -> list[dict[str, Any]]:
    """COCO's records of one class: boxes as x, y, width, height, numbered from 1."""
    boxes = boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    areas = (boxes[:, 2] * boxes[:, 3]).tolist()
    rows = zip(images.tolist(), boxes.tolist(), areas, strict=True)
    return [
        {"id": n, "image_id": image, "category_id": 1, "bbox": box, "area": area, "iscrowd": 0}
        for n, (image, box, area) in enumerate(rows, start=1)
    ]


def _judge(detected: list[dict[str, Any]], labelled: list[dict[str, Any]]) -> Precisions:
    """One class's precisions; -1 where nothing is to be found."""
    # an image with neither a detection nor an object of the class changes nothing
    numbers = sorted({record["image_id"] for rows in (detected, labelled) for record in rows})
    described = {"images": [{"id": n} for n in numbers], "categories": [{"id": 1, "name": "it"}]}
    judge = COCOeval_faster(
        COCO(described | {"annotations": labelled}, print_function=_silent),
        COCO(described | {"annotations": detected}, print_function=_silent),
        iouType="bbox",
        print_function=_silent,
    )
    judge.evaluate()
    judge.accumulate()
    return np.asarray(judge.eval["precision"], dtype=np.float64)


def _silent(*_: object) -> None:
    """Takes the evaluator's printed lines: the caller gets numbers instead."""
