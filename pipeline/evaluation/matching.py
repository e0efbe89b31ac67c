"""Which detection found which object, by the VOC rule (SPEC §11), for all images at once."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from pipeline.errors import InputError
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    Labels,
    TableLike,
    read_detections,
    read_ground_truth,
)

OUTCOMES = ("false", "true", "duplicate", "difficult")
FALSE, TRUE, DUPLICATE, DIFFICULT = range(4)


@dataclass(frozen=True)
class Matches:
    """What became of every detection, in the row order of its table.

    Attributes:
        codes: index into ``OUTCOMES``.
        objects: row of the ground truth that overlaps most, when its IoU suffices; else -1.
        ious: the highest IoU with an object of the same class in the same image; 0 without one.
        found: per row of the ground truth, whether a detection is true by it. A difficult object
            counts as found when any detection fell to it.
    """

    codes: Int8[np.ndarray, " detections"]
    objects: Int[np.ndarray, " detections"]
    ious: Float[np.ndarray, " detections"]
    found: Bool[np.ndarray, " objects"]

    @property
    def outcomes(self) -> np.ndarray:
        """Per detection ``"true"``, ``"false"``, ``"duplicate"`` or ``"difficult"``."""
        return np.array(OUTCOMES)[self.codes]


def match_detections(
    detections: TableLike,
    ground_truth: TableLike,
    iou: float | int = 0.5,
    image_ids: Iterable[Hashable] | None = None,
) -> Matches:
    """Decide for every detection whether it is right.

    By falling score (equal scores in table order), a detection goes to the object of its class in
    its image with the highest IoU, the first of several equal ones, difficult objects included.
    Below ``iou`` it is ``false``. On a difficult object it is ``difficult``: neither right nor
    wrong. The first one on any other object is ``true``, each later one a ``duplicate``, which
    counts as false; it does not fall back to the next best object.

    Args:
        detections: columns ``image_id, class, score`` and the box; see ``tables``.
        ground_truth: columns ``image_id, class``, the box, optionally ``difficult``.
        iou: IoU that suffices, in (0, 1].
        image_ids: all images that were searched; needed when some have no objects. Default: the
            images of the ground truth.

    Raises:
        InputError: a malformed table, a detection or object of an unknown image, or ``iou``
            outside (0, 1].
    """
    found, objects = read_detections(detections), read_ground_truth(ground_truth)
    images = known_images(found, objects, image_ids)
    return match(found, objects, images, float(iou))


def known_images(
    detections: Detections, ground_truth: GroundTruth, image_ids: Iterable[Hashable] | None
) -> dict[Hashable, int]:
    """Index of the evaluated images; an image outside ``image_ids`` is an error."""
    listed = ground_truth.images.names if image_ids is None else image_ids
    index = {image_id: number for number, image_id in enumerate(dict.fromkeys(listed))}
    _refuse_unknown("detections", detections.images, index)
    _refuse_unknown("ground truth", ground_truth.images, index)
    return index


def _refuse_unknown(title: str, images: Labels, index: dict[Hashable, int]) -> None:
    unknown = [name for name in images.names if name not in index]
    if unknown:
        raise InputError(
            f"{title}: {len(unknown)} of {len(images.names)} images are unknown, such as "
            f"{unknown[0]!r}; the evaluation knows {len(index)}. Pass image_ids with every image "
            "that was searched, also those without objects"
        )


def class_index(detections: Detections, ground_truth: GroundTruth) -> dict[Hashable, int]:
    """A number for each class of either table, in order of appearance, the objects' first."""
    names = dict.fromkeys((*ground_truth.classes.names, *detections.classes.names))
    return {name: number for number, name in enumerate(names)}


def match(
    detections: Detections, ground_truth: GroundTruth, images: dict[Hashable, int], iou: float
) -> Matches:
    """Match tables that were read; ``match_detections`` says by which rule.

    Source: SPEC §11. Nothing is sorted by score: which object a detection goes to does not depend
    on the other detections, and among those of one object the best-scored is the true one.
    """
    if not 0 < iou <= 1:
        raise InputError(f"IoU threshold {iou} is outside (0, 1]; VOC's is 0.5")
    classes = class_index(detections, ground_truth)
    object_images = ground_truth.images.within(images)
    by_image = np.argsort(object_images, kind="stable")
    first = np.searchsorted(object_images[by_image], np.arange(len(images) + 1))
    return Matches(
        *_match_rows(
            detections.images.within(images),
            detections.classes.within(classes),
            np.ascontiguousarray(detections.boxes),
            detections.scores.astype(np.float64),
            first,
            by_image,
            ground_truth.classes.within(classes),
            ground_truth.boxes.astype(np.float64),
            ground_truth.difficult,
            iou,
        )
    )


@numba.njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _match_rows(
    images,
    classes,
    boxes,
    scores,
    first_object,  # of each image, a place in by_image
    by_image,  # rows of objects, grouped by image
    object_classes,
    object_boxes,
    difficult,
    threshold,
):
    codes = np.zeros(len(boxes), dtype=np.int8)
    objects = np.full(len(boxes), -1, dtype=np.int64)
    ious = np.zeros(len(boxes))
    found = np.zeros(len(object_boxes), dtype=np.bool_)
    true_row = np.full(len(object_boxes), -1, dtype=np.int64)
    for row in range(len(boxes)):
        # in float64 whatever the table holds: products of float32 would round an IoU of 0.5 away
        x_min, y_min = np.float64(boxes[row, 0]), np.float64(boxes[row, 1])
        x_max, y_max = np.float64(boxes[row, 2]), np.float64(boxes[row, 3])
        area = (x_max - x_min) * (y_max - y_min)
        best, best_iou = -1, 0.0
        for place in range(first_object[images[row]], first_object[images[row] + 1]):
            k = by_image[place]
            if object_classes[k] != classes[row]:
                continue
            other = object_boxes[k]
            width = min(x_max, other[2]) - max(x_min, other[0])
            height = min(y_max, other[3]) - max(y_min, other[1])
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            other_area = (other[2] - other[0]) * (other[3] - other[1])
            overlap = shared / (area + other_area - shared)
            if overlap > best_iou:  # strictly: the first of equal ones wins
                best, best_iou = k, overlap
        ious[row] = best_iou
        if best < 0 or best_iou < threshold:
            continue
        objects[row], found[best], rival = best, True, true_row[best]
        if difficult[best]:
            codes[row] = DIFFICULT
        elif rival < 0:
            codes[row], true_row[best] = TRUE, row
        elif scores[row] > scores[rival]:  # strictly: of equal scores the earlier row stays true
            codes[rival] = DUPLICATE
            codes[row], true_row[best] = TRUE, row
        else:
            codes[row] = DUPLICATE
    return codes, objects, ious, found
