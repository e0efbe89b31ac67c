"""COCO's average precisions, by the maintained evaluator ``faster-coco-eval``."""

from collections.abc import Hashable, Iterable

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from pipeline.evaluation.matching import known_images
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    TableLike,
    read_detections,
    read_ground_truth,
)

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


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
    if not len(truth.difficult):
        return dict.fromkeys(NAMES, float("nan"))
    # classes that no object has cannot have an average precision; COCO leaves them out as well
    classes = {name: k for k, name in enumerate(truth.classes.names, start=1)}
    objects = _quiet_coco(images, classes, truth)
    judge = COCOeval_faster(
        objects,
        objects.loadRes(_annotations(found, images, classes)),
        iouType="bbox",
        print_function=_silent,
    )
    judge.run()
    values = np.asarray(judge.stats, dtype=np.float64)[: len(NAMES)]
    return {
        name: float(value) if value >= 0 else float("nan")  # COCO writes "nothing" as -1
        for name, value in zip(NAMES, values, strict=True)
    }


def _silent(*_: object) -> None:
    """Takes the evaluator's printed lines: the caller gets numbers instead."""


def _quiet_coco(
    images: dict[Hashable, int], classes: dict[Hashable, int], truth: GroundTruth
) -> COCO:
    annotations = _annotations(truth, images, classes)
    for number, (row, crowd) in enumerate(zip(annotations, truth.difficult, strict=True), start=1):
        width, height = row["bbox"][2:]
        row |= {"id": number, "area": width * height, "iscrowd": int(crowd)}
    dataset = {
        "info": {},
        "images": [{"id": number} for number in images.values()],
        "categories": [{"id": number, "name": str(name)} for name, number in classes.items()],
        "annotations": annotations,
    }
    return COCO(dataset, print_function=_silent)


def _annotations(
    rows: Detections | GroundTruth, images: dict[Hashable, int], classes: dict[Hashable, int]
) -> list[dict]:
    """COCO's records, boxes as x, y, width, height; rows of unlisted classes are left out."""
    boxes = rows.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    image_of = rows.images.within(images).tolist()
    class_of = rows.classes.within({name: classes.get(name, 0) for name in rows.classes.names})
    records = [
        {"image_id": image, "category_id": kind, "bbox": box, "segmentation": []}
        for image, kind, box in zip(image_of, class_of.tolist(), boxes.tolist(), strict=True)
    ]
    if isinstance(rows, Detections):
        for record, score in zip(records, rows.scores.tolist(), strict=True):
            record["score"] = score
    return [record for record in records if record["category_id"]]
