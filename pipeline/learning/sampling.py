"""Which windows of an image are positives and negatives of each class (SPEC §6).

Every choice depends on the image and the seed alone, never on shards or workers.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.boxes import iou, nms_after


@dataclass(frozen=True)
class Labelled:
    """The windows of one image, held against its objects."""

    image_id: str
    boxes: Float[np.ndarray, "windows 4"]
    positive: Bool[np.ndarray, "windows classes"]
    """The window is an object of the class."""
    negative: Bool[np.ndarray, "windows classes"]
    """The window overlaps every object of the class by strictly less than the limit."""


def label(
    image_id: str,
    boxes: Float[np.ndarray, "windows 4"],
    is_truth: Bool[np.ndarray, " windows"],
    object_boxes: Float[np.ndarray, "objects 4"],
    object_classes: Int[np.ndarray, " objects"],
    object_counts: Bool[np.ndarray, " objects"],
    classes: int,
    negative_iou: float,
) -> Labelled:
    """Hold the windows of an image against its objects.

    Args:
        image_id: names the image, and seeds its order.
        boxes: the windows.
        is_truth: windows that were put in as ground truth; only they can be positives.
        object_boxes: the objects, difficult ones included.
        object_classes: index of each object's class.
        object_counts: whether the object may serve as a positive.
        classes: how many there are.
        negative_iou: negatives stay strictly below this with each object of the class.
    """
    positive = np.zeros((len(boxes), classes), dtype=bool)
    highest = np.zeros((len(boxes), classes))
    overlaps = iou(boxes, object_boxes)
    for number, (k, counts) in enumerate(zip(object_classes, object_counts, strict=True)):
        highest[:, k] = np.maximum(highest[:, k], overlaps[:, number])
        same = (np.asarray(boxes) == object_boxes[number]).all(axis=1)
        positive[:, k] |= same & is_truth & counts
    return Labelled(image_id, boxes, positive, highest < negative_iou)


def spread(labelled: Labelled, duplicate_iou: float, seed: int) -> Bool[np.ndarray, "windows k"]:
    """Return each class's negatives after the 70% rule, in the image's fixed, seeded order.

    Of two that overlap by more than `duplicate_iou`, the later in the order is dropped.
    """
    order = image_random(labelled.image_id, seed).permutation(len(labelled.boxes))
    kept = np.zeros_like(labelled.negative)
    done: dict[bytes, int] = {}
    for k in range(kept.shape[1]):
        # Classes that are absent from the image share their negatives: suppress once.
        key = labelled.negative[:, k].tobytes()
        if key in done:
            kept[:, k] = kept[:, done[key]]
            continue
        done[key] = k
        chosen = order[labelled.negative[order, k]]
        kept[chosen, k] = nms_after(labelled.boxes[chosen], [], duplicate_iou)
    return kept


def drawn(
    labelled: Labelled, share: float, seed: int, purpose: int
) -> Bool[np.ndarray, " windows"]:
    """Return a uniform seeded sample of about `share` of the windows.

    `purpose` keeps samples taken for different ends independent.
    """
    return image_random(labelled.image_id, seed, purpose).random(len(labelled.boxes)) < share


def image_random(image_id: str, *seeds: int) -> np.random.Generator:
    """Return the random numbers of one image: the same wherever and whenever it is read."""
    name = int.from_bytes(sha256(image_id.encode()).digest()[:8], "little")
    return np.random.default_rng([name, *(seed % 2**32 for seed in seeds)])


def best_first(
    candidates: Bool[np.ndarray, " windows"],
    scores: Float[np.ndarray, " windows"],
    boxes: Float[np.ndarray, "windows 4"],
    cached: Bool[np.ndarray, " windows"],
    duplicate_iou: float | None,
    limit: int,
) -> Int[np.ndarray, " chosen"]:
    """Return up to `limit` candidates of one class and image by descending score.

    Args:
        candidates: windows that may be taken.
        scores: of the class.
        boxes: of the windows.
        cached: windows that the class holds already; a candidate that repeats one is dropped.
        duplicate_iou: the 70% rule by score; None where the seeded order has applied it before.
        limit: most to take.
    """
    order = np.flatnonzero(candidates)
    order = order[np.argsort(-scores[order], kind="stable")]
    if duplicate_iou is not None:
        order = order[nms_after(boxes[order], boxes[cached], duplicate_iou)]
    return order[:limit]
