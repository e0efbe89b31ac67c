"""Which detection found which object, by the VOC rule (SPEC §11), for all images at once."""

from collections.abc import Hashable, Iterable, Iterator
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


@dataclass(frozen=True)
class Ranking:
    """One class: its detections by falling score, and its objects grouped by image, as rows."""

    name: Hashable
    detections: Int[np.ndarray, " detections"]
    objects: Int[np.ndarray, " objects"]
    first_object: Int[np.ndarray, " images_and_one"]


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
    return match_rankings(found, objects, images, rankings(found, objects, images), float(iou))


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


def rankings(
    detections: Detections, ground_truth: GroundTruth, images: dict[Hashable, int]
) -> Iterator[Ranking]:
    """The rows of each class that occurs, sorted as the matching needs them."""
    names = dict.fromkeys((*ground_truth.classes.names, *detections.classes.names))
    index: dict[Hashable, int] = {name: number for number, name in enumerate(names)}
    found = _groups(detections.classes.within(index), len(index))
    objects = _groups(ground_truth.classes.within(index), len(index))
    object_images = ground_truth.images.within(images)
    for name, number in index.items():
        rows = found[number]
        best_first = rows[np.argsort(-detections.scores[rows], kind="stable")]
        mine = objects[number]
        by_image = mine[np.argsort(object_images[mine], kind="stable")]
        first = np.searchsorted(object_images[by_image], np.arange(len(images) + 1))
        yield Ranking(name, best_first, by_image, first)


def _groups(codes: Int[np.ndarray, " rows"], count: int) -> list[Int[np.ndarray, " some"]]:
    """The rows of each code, in row order."""
    small = codes.astype(np.int16) if count < 2**15 else codes  # int16 sorts by radix: 10× faster
    order = np.argsort(small, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=count))[:-1]) if count else []


def match_rankings(
    detections: Detections,
    ground_truth: GroundTruth,
    images: dict[Hashable, int],
    classes: Iterable[Ranking],
    iou: float,
) -> Matches:
    """Match class after class; ``match_detections`` says by which rule."""
    if not 0 < iou <= 1:
        raise InputError(f"IoU threshold {iou} is outside (0, 1]; VOC's is 0.5")
    rows, image_of = len(detections.scores), detections.images.within(images)
    matches = Matches(
        codes=np.zeros(rows, dtype=np.int8),
        objects=np.full(rows, -1, dtype=np.int64),
        ious=np.zeros(rows),
        found=np.zeros(len(ground_truth.difficult), dtype=bool),
    )
    for ranking in classes:
        mine, objects = ranking.detections, ranking.objects
        codes, local, ious = _match_class(
            image_of[mine],
            detections.boxes[mine].astype(np.float64),
            ranking.first_object,
            ground_truth.boxes[objects].astype(np.float64),
            ground_truth.difficult[objects],
            float(iou),
        )
        matches.codes[mine], matches.ious[mine] = codes, ious
        hit = local >= 0
        matches.objects[mine[hit]] = objects[local[hit]]
    matches.found[matches.objects[matches.objects >= 0]] = True
    return matches


@numba.njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _match_class(images, boxes, first_object, object_boxes, difficult, threshold):
    codes = np.zeros(len(boxes), dtype=np.int8)
    objects = np.full(len(boxes), -1, dtype=np.int64)
    ious = np.zeros(len(boxes))
    taken = np.zeros(len(object_boxes), dtype=np.bool_)
    for rank in range(len(boxes)):
        x_min, y_min, x_max, y_max = boxes[rank]
        area = (x_max - x_min) * (y_max - y_min)
        best, best_iou = -1, 0.0
        for k in range(first_object[images[rank]], first_object[images[rank] + 1]):
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
        ious[rank] = best_iou
        if best < 0 or best_iou < threshold:
            continue
        objects[rank] = best
        if difficult[best]:
            codes[rank] = DIFFICULT
        elif taken[best]:
            codes[rank] = DUPLICATE
        else:
            codes[rank] = TRUE
            taken[best] = True
    return codes, objects, ious
