"""Which windows of an image are positives and negatives of each class (SPEC §6).

Every choice depends on the image and the seed alone, never on shards or workers.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.boxes import iou


@dataclass(frozen=True)
class Labelled:
    """The windows of one image, held against its objects."""

    image_id: str
    boxes: Float[np.ndarray, "windows 4"]
    positive: Bool[np.ndarray, "windows classes"]
    """The window is an object of the class."""
    negative: Bool[np.ndarray, "windows classes"]
    """The window overlaps every object of the class by strictly less than the limit."""
    told: Bool[np.ndarray, "windows classes"] | bool = False
    """A person said that the window is none of the class: a negative, whatever it scores."""


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
    negative = np.ones((len(boxes), classes), dtype=bool)
    near = iou(boxes, object_boxes) >= negative_iou
    truth = np.flatnonzero(is_truth)
    for number, (k, counts) in enumerate(zip(object_classes, object_counts, strict=True)):
        negative[near[:, number], k] = False
        if counts:
            positive[truth[(boxes[truth] == object_boxes[number]).all(axis=1)], k] = True
    return Labelled(image_id, boxes, positive, negative)


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


def windows_of(flags: Bool[np.ndarray, "windows classes"]) -> Int[np.ndarray, " some"]:
    """Return the windows that have a flag of some class; ten times faster than `any(axis=1)`."""
    rows = np.flatnonzero(flags) // flags.shape[1]
    return rows[np.flatnonzero(np.diff(rows, prepend=-1))]


def by_class(flags: Bool[np.ndarray, "windows classes"]) -> Int[np.ndarray, " classes"]:
    """Return how many flags each class has; faster than `sum(axis=0)`, as most are not set."""
    classes = flags.shape[1]
    return np.bincount(np.flatnonzero(flags) % classes, minlength=classes)
