"""Boxes: `(x_min, y_min, x_max, y_max)`, 0-based, half-open, in pixels (SPEC §1).

Arithmetic is done in float64, so that an overlap of exactly 3/10 equals the literal `0.3` and
"strictly greater" means what it says.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int
from numba import njit
from numpy.typing import ArrayLike

__all__ = ["area", "as_boxes", "clip", "decode", "encode", "flip", "intersection", "iou", "nms"]


def as_boxes(boxes: ArrayLike) -> Float[np.ndarray, "windows 4"]:
    """Return `boxes` as float64 `[windows 4]`; an empty list becomes `[0 4]`.

    Raises:
        ValueError: the array does not hold four numbers a box.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes have shape {list(array.shape)}; they must be [windows, 4]")
    return array


def area(boxes: ArrayLike) -> Float[np.ndarray, " windows"]:
    """Return the area of each box in square pixels; a reversed box has none."""
    x_min, y_min, x_max, y_max = as_boxes(boxes).T
    return np.maximum(x_max - x_min, 0) * np.maximum(y_max - y_min, 0)


def intersection(boxes_a: ArrayLike, boxes_b: ArrayLike) -> Float[np.ndarray, "a b"]:
    """Return the area that each box of `a` shares with each box of `b`, in square pixels."""
    a, b = as_boxes(boxes_a)[:, None], as_boxes(boxes_b)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    sides = np.maximum(sides, 0)
    return sides[..., 0] * sides[..., 1]  # `prod` along so short an axis takes three times as long


def iou(boxes_a: ArrayLike, boxes_b: ArrayLike) -> Float[np.ndarray, "a b"]:
    """Return intersection over union of every pair; a pair of empty boxes overlaps by 0.

    >>> float(iou([[0, 0, 10, 10]], [[5, 5, 15, 15]])[0, 0]) == 25 / (100 + 100 - 25)
    True
    """
    shared = intersection(boxes_a, boxes_b)
    union = area(boxes_a)[:, None] + area(boxes_b)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def nms(boxes: ArrayLike, scores: ArrayLike, threshold: int | float) -> Int[np.ndarray, " kept"]:
    """Greedy non-maximum suppression (SPEC §1).

    Args:
        boxes: `[windows 4]`.
        scores: `[windows]`; equal scores keep input order, the earlier box wins.
        threshold: a box is suppressed when its IoU with a kept one is strictly greater.

    Returns:
        Indices of the kept boxes, best first.
    """
    array, ranked = as_boxes(boxes), np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(array) != len(ranked):
        raise ValueError(f"{len(array)} boxes but {len(ranked)} scores")
    order = np.argsort(-ranked, kind="stable")
    kept = _suppress(array[order], float(threshold))
    return order[kept]


@njit(cache=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _suppress(boxes, threshold):  # pragma: no cover - compiled
    """Keep, in the order given, the boxes that overlap no kept one too much."""
    n = len(boxes)
    kept = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        x_min, y_min, x_max, y_max = boxes[i]
        size = max(x_max - x_min, 0.0) * max(y_max - y_min, 0.0)
        keep = True
        for j in range(i):
            if not kept[j]:
                continue
            width = min(x_max, boxes[j, 2]) - max(x_min, boxes[j, 0])
            height = min(y_max, boxes[j, 3]) - max(y_min, boxes[j, 1])
            if width <= 0 or height <= 0:
                continue
            other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
            shared = width * height
            if shared / (size + other - shared) > threshold:
                keep = False
                break
        kept[i] = keep
    return kept


def clip(
    boxes: ArrayLike, width: int | float, height: int | float
) -> Float[np.ndarray, "windows 4"]:
    """Return `boxes` cut to an image of `width` × `height` pixels."""
    return np.clip(as_boxes(boxes), 0, [width, height, width, height])


def flip(boxes: ArrayLike, width: int | float) -> Float[np.ndarray, "windows 4"]:
    """Return `boxes` mirrored left to right in an image `width` pixels wide.

    >>> flip([[10, 20, 30, 40]], 100).tolist()
    [[70.0, 20.0, 90.0, 40.0]]
    """
    x_min, y_min, x_max, y_max = as_boxes(boxes).T
    return np.stack([width - x_max, y_min, width - x_min, y_max], axis=1)


def encode(windows: ArrayLike, targets: ArrayLike) -> Float[np.ndarray, "windows 4"]:
    """Return the move from each window to its target: `(Δx/w, Δy/h, ln(w'/w), ln(h'/h))` (SPEC §8).

    Raises:
        ValueError: a window or a target is empty, whose logarithm does not exist.
    """
    centre, size = _centres(windows, "window")
    target_centre, target_size = _centres(targets, "target")
    return np.hstack([(target_centre - centre) / size, np.log(target_size / size)])


def decode(windows: ArrayLike, deltas: ArrayLike) -> Float[np.ndarray, "windows 4"]:
    """Return the boxes that `deltas` (see `encode`) make of `windows`."""
    centre, size = _centres(windows, "window")
    moves = as_boxes(deltas)
    target_centre, target_size = centre + moves[:, :2] * size, size * np.exp(moves[:, 2:])
    return np.hstack([target_centre - target_size / 2, target_centre + target_size / 2])


def _centres(boxes: ArrayLike, noun: str) -> tuple[np.ndarray, np.ndarray]:
    array = as_boxes(boxes)
    size = array[:, 2:] - array[:, :2]
    if (size <= 0).any():
        row = int(np.argmax((size <= 0).any(axis=1)))
        raise ValueError(f"{noun} {row} is empty: {array[row].tolist()}")
    return (array[:, :2] + array[:, 2:]) / 2, size
