"""The 70% rule: of two negatives in one image that overlap by more, one is dropped (SPEC §6).

Who is kept: the higher score, or, where all negatives must be one set, the earlier in a seeded
order. The same as `pipeline.boxes.nms` class by class; here an image's classes go together, and no
window is looked at that decides about none of those asked for.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from pipeline.learning import sampling


def spread(
    labelled: sampling.Labelled,
    duplicate_iou: float,
    seed: int,
    wanted: Bool[np.ndarray, "windows k"] | None = None,
) -> Bool[np.ndarray, "windows k"]:
    """Return each class's negatives after the 70% rule, in the image's fixed, seeded order.

    Of two that overlap by more than `duplicate_iou`, the later in the order is dropped.

    Args:
        labelled: the windows and what they are negatives of.
        duplicate_iou: strictly above this, two are duplicates.
        seed: of the order.
        wanted: the windows to answer for, by class; None for all. The answer for each is the
            same, at the cost of those that decide about it alone.
    """
    asked = labelled.negative if wanted is None else labelled.negative & wanted
    kept = np.zeros_like(asked)
    rows = np.zeros(len(asked), dtype=bool)
    rows[sampling.windows_of(asked)] = True
    if rows.any():
        order = sampling.image_random(labelled.image_id, seed).permutation(len(rows))
        boxes, negative = labelled.boxes[order], labelled.negative[order]
        kept[order] = _spread(boxes, negative, rows[order], float(duplicate_iou))
    return kept & asked


@njit(cache=True, error_model="numpy")
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _spread(boxes, negative, asked, threshold):  # pragma: no cover - compiled
    """Keep of each class the negatives that no kept one before them overlaps by too much.

    Backwards from the windows asked for to those that decide about them, then forwards: overlaps
    are found once for all classes, and only where they matter.
    """
    windows, classes = negative.shape
    x_min, y_min = boxes[:, 0].copy(), boxes[:, 1].copy()
    x_max, y_max = boxes[:, 2].copy(), boxes[:, 3].copy()
    size = (x_max - x_min) * (y_max - y_min)
    needed = asked.copy()
    first, last = np.zeros(windows, np.int64), np.zeros(windows, np.int64)
    near, count = np.empty(1024, np.int64), 0
    close = np.empty(windows, np.uint8)
    for i in range(windows - 1, -1, -1):
        first[i] = count
        if needed[i] and _close(i, x_min, y_min, x_max, y_max, size, threshold, close):
            for j in range(i):
                if not close[j]:
                    continue
                width = min(x_max[i], x_max[j]) - max(x_min[i], x_min[j])
                height = min(y_max[i], y_max[j]) - max(y_min[i], y_min[j])
                shared = width * height
                if shared / (size[i] + size[j] - shared) > threshold:
                    if count == len(near):
                        near = np.append(near, np.empty_like(near))
                    near[count] = j
                    count += 1
                    needed[j] = True
        last[i] = count
    kept = np.zeros_like(negative)
    for i in range(windows):
        if needed[i]:
            kept[i] = negative[i]
            for at in range(first[i], last[i]):
                for k in range(classes):
                    kept[i, k] &= not kept[near[at], k]
    return kept


@njit(cache=True, error_model="numpy")
@no_type_check  # compiled
def _close(i, x_min, y_min, x_max, y_max, size, threshold, close):  # pragma: no cover - compiled
    """Mark which windows before `i` may overlap it by more, and count them.

    Without branch or division it compiles to vector instructions: a tenth of the time. Rounding
    may mark too many, never too few: 0.99.
    """
    left, top, right, bottom = x_min[i], y_min[i], x_max[i], y_max[i]
    least, own, count = 0.99 * threshold, size[i], 0
    for j in range(i):
        width = min(right, x_max[j]) - max(left, x_min[j])
        height = min(bottom, y_max[j]) - max(top, y_min[j])
        shared = max(width, 0.0) * max(height, 0.0)
        near = shared > least * (own + size[j] - shared)
        close[j] = near
        count += near
    return count


def hardest(
    candidates: Bool[np.ndarray, "windows classes"],
    scores: Float[np.ndarray, "windows classes"],
    boxes: Float[np.ndarray, "windows 4"],
    cached: Bool[np.ndarray, "windows classes"],
    duplicate_iou: float | None,
    limit: int,
) -> Bool[np.ndarray, "windows classes"]:
    """Return up to `limit` candidates of each class in one image, by descending score.

    Args:
        candidates: windows that may be taken; the few of them are sorted, and nothing else.
        scores: by class; of equal ones the earlier window comes first.
        boxes: of the windows.
        cached: windows that a class holds already; a candidate that repeats one is dropped.
        duplicate_iou: the 70% rule by score; None where the seeded order has applied it before.
        limit: most to take of a class.
    """
    taken = np.zeros_like(candidates)
    pairs = np.flatnonzero(candidates)
    if len(pairs):
        window, k = np.divmod(pairs, candidates.shape[1])
        order = np.lexsort((-scores.reshape(-1)[pairs], k))
        most = np.inf if duplicate_iou is None else float(duplicate_iou)
        _take(boxes, window[order], k[order], cached, most, limit, taken)
    return taken


@njit(cache=True, error_model="numpy")
@no_type_check  # compiled
def _take(boxes, window, classes, cached, threshold, limit, taken):  # pragma: no cover - compiled
    """Take candidates, sorted by class, that overlap none of their class by more."""
    held = np.empty(len(boxes) + 1, np.int64)
    count, begun, k = 0, 0, -1
    for at in range(len(window)):
        if classes[at] != k:
            k, count = classes[at], 0
            if threshold < np.inf:
                for row in range(len(boxes)):
                    if cached[row, k]:
                        held[count] = row
                        count += 1
            begun = count
        if count - begun >= limit:
            continue
        i = window[at]
        x_min, y_min, x_max, y_max = boxes[i]
        size = (x_max - x_min) * (y_max - y_min)
        free = True
        if threshold < np.inf:
            for number in range(count):
                j = held[number]
                width = min(x_max, boxes[j, 2]) - max(x_min, boxes[j, 0])
                height = min(y_max, boxes[j, 3]) - max(y_min, boxes[j, 1])
                if width > 0 and height > 0:
                    other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                    shared = width * height
                    if shared / (size + other - shared) > threshold:
                        free = False
                        break
        if free:
            held[count] = i
            count += 1
            taken[i, k] = True
