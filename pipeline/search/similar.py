"""Nearest windows as a person wants them: one hit for each object, with image and box.

Candidate windows of one object overlap, and their vectors are alike: of the nearest hundred windows
a dozen objects have most. So overlapping windows of an image count as one hit, the best of them.

That is exact without looking at all rows: a window is folded into a better one, and the best n rows
hold every row that is better than one of theirs. So what is left of the best n is what would be
left of all; where it is too few, more rows are asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from pipeline.boxes import nms
from pipeline.search.nearest import Found
from pipeline.store.blocks import Query
from pipeline.store.class_scores import LinearClassifiers
from pipeline.store.conditions import in_brackets
from pipeline.store.rows import Vectors
from pipeline.store.scan import SCALAR_NAMES
from pipeline.store.schema import box_array
from pipeline.store.sql import asking
from pipeline.store.vector_functions import HANDLE_NUMBER, rows_of

# The 20 hits of a labelled object of VOC 2007 come from a median of 5 images at 0.5, of 13 at 0.3:
# parts of an object overlap it by less than a half. Detections are suppressed at 0.3, too.
FOLDED_IOU = 0.3
ROWS_PER_HIT, FEWEST_ROWS = 64, 256  # asked for at first
MORE = 8  # times as many, where those were too few

Find = Callable[[Sequence[Query], int], list[Found]]
"""The nearest rows of each query, at most so many: `nearest`, or a compact copy's."""


@dataclass(frozen=True)
class Hits:
    """What was found for one query, best first."""

    rows: Int[np.ndarray, " hits"]
    scores: Float[np.ndarray, " hits"]
    windows: pa.Table
    """image_id, window_id, box, scale_px, source, split of each."""
    passes: int = 1
    """How often rows were looked for: again where those of the first time were of too few hits."""


def similar(
    vectors: Vectors,
    queries: Sequence[Query],
    count: int,
    find: Find,
    fold: int | float | None = FOLDED_IOU,
) -> list[Hits]:
    """Return the hits of each query.

    Args:
        vectors: of the store.
        queries: what to look for.
        count: hits of each; fewer where the store has fewer.
        find: how rows are found.
        fold: windows of one image whose IoU is greater count as one; None: none do.
    """
    bound = count if fold is None else max(ROWS_PER_HIT * count, FEWEST_ROWS)
    hits: dict[int, Hits] = {}
    passes = 1
    while left := [number for number in range(len(queries)) if number not in hits]:
        for number, found in zip(left, find([queries[k] for k in left], bound), strict=True):
            made = _hits(vectors, found, count, fold)
            if len(made.rows) == count or len(found) < bound:
                hits[number] = replace(made, passes=passes)
        passes += 1
        bound = min(MORE * bound, len(vectors) + 1)
    return [hits[number] for number in range(len(queries))]


def _hits(vectors: Vectors, found: Found, count: int, fold: int | float | None) -> Hits:
    """Return the first hits among the nearest rows."""
    # Where they lie is read for the first rows only, as long as these have enough hits.
    few = min(len(found), count if fold is None else 4 * count)
    while True:
        windows = vectors.scalars(found.rows[:few], SCALAR_NAMES)
        if fold is None:
            kept = np.arange(few)
        else:
            kept = folded(windows["image_id"].to_pylist(), box_array(windows), fold)
        if len(kept) >= count or few == len(found):
            kept = kept[:count]
            return Hits(found.rows[kept], found.scores[kept], windows.take(pa.array(kept)))
        few = min(MORE * few, len(found))


def folded(
    images: Sequence[str], boxes: Float[np.ndarray, "windows 4"], limit: int | float
) -> Int[np.ndarray, " kept"]:
    """Return which windows are hits of their own, of windows that stand best first.

    Args:
        images: of each window.
        boxes: in pixels.
        limit: greatest IoU with a better hit of the same image.
    """
    _, numbers = np.unique(np.array(images, dtype=object), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    kept = [np.zeros(0, np.int64)]
    for inside in np.split(order, ends):
        # Equal scores: `nms` keeps the order given.
        kept.append(inside[nms(boxes[inside], np.zeros(len(inside)), limit)])
    return np.sort(np.concatenate(kept))


def rows_where(
    vectors: Vectors,
    where: str,
    classifiers: Sequence[LinearClassifiers] = (),
    detections: pa.Table | None = None,
) -> Bool[np.ndarray, " rows"]:
    """Return which rows of a store satisfy a condition in SQL over `windows` and the other tables.

    A byte a row, which is little beside its vector. Vectors are read only if the condition asks.

    Args:
        vectors: of the store.
        where: see `Store.sql`.
        classifiers: that `score` may name.
        detections: the table of that name.

    Raises:
        InputError: the condition cannot be used.
    """
    found = np.zeros(len(vectors), bool)
    query = f"SELECT {HANDLE_NUMBER} FROM windows WHERE {in_brackets(where)}"
    with asking(vectors.store, query, None, classifiers, detections, vectors) as answer:
        for batch in answer:
            found[rows_of(vectors, batch.column(0).to_numpy())] = True
    return found
