"""Scores to detections: the best windows of each class in each image, suppressed (SPEC §7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from pipeline.boxes import as_boxes, clip, nms
from pipeline.config import Detection
from pipeline.errors import InputError
from pipeline.learning import box_regressors, classifiers
from pipeline.learning.labelling import is_ground_truth
from pipeline.store.beside import Beside
from pipeline.store.blocks import Block
from pipeline.store.files import written_aside
from pipeline.store.footers import require_plain
from pipeline.store.reader import Store
from pipeline.store.rows import row_groups
from pipeline.store.schema import BOX_COLUMNS, DETECTIONS, box_array, image_slices


@dataclass(frozen=True)
class DetectSpec:
    """What a task needs to turn a shard into detections."""

    store: Store
    classifiers: Path
    detection: Detection
    regressors: Path | None = None
    """Folder of box regressors; None: detections are windows."""
    pool5: Store | None = None
    """What regressors read, where `store` has vectors of another layer."""


@dataclass(frozen=True)
class DetectStats:
    """What `detect_shard` wrote."""

    images: int
    detections: int


Move = Callable[
    [Int[np.ndarray, " found"], Int[np.ndarray, " found"]], Float[np.ndarray, "found 4"]
]
"""Gives the boxes, within the image, that some windows become as detections of some classes."""


def detect(
    boxes: ArrayLike,
    scores: Float[np.ndarray, "windows classes"],
    image_size: Sequence[int | float],
    settings: Detection,
    move: Move | None = None,
) -> tuple[Int[np.ndarray, " found"], Int[np.ndarray, " found"], Float[np.ndarray, "found 4"]]:
    """Return the detections of one image: window, class, and clipped box of each.

    Args:
        boxes: `[windows 4]`, ground truth left out.
        scores: of each window for each class.
        image_size: `(width, height)`.
        settings: of each class the best `per_class` above `min_score` go into suppression.
        move: box regression of the windows that are left; where they come to lie they are
            suppressed once more.

    Returns:
        Class by class, best first.

    >>> boxes, scores = [[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]], [[0.5], [0.9], [-2.0]]
    >>> detect(boxes, np.array(scores), (40, 40), Detection())[0].tolist()
    [1]
    """
    array = as_boxes(boxes)
    windows, classes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for k in np.flatnonzero((scores > settings.min_score).any(axis=0)):
        column = scores[:, k]
        ranked = best(column, settings.per_class, settings.min_score)
        kept = ranked[nms(array[ranked], column[ranked], settings.nms_iou)]
        windows.append(kept)
        classes.append(np.full(len(kept), k))
    window, class_ = np.concatenate(windows), np.concatenate(classes)
    if move is None:
        return window, class_, clip(array[window], *image_size)
    moved = move(window, class_)
    own = [np.flatnonzero(class_ == k) for k in np.unique(class_)]
    left = [
        part[nms(moved[part], scores[window[part], class_[part]], settings.nms_iou)] for part in own
    ]
    kept = np.concatenate([np.zeros(0, np.int64), *left])
    return window[kept], class_[kept], moved[kept]


def best(
    scores: Float[np.ndarray, " windows"], limit: int, min_score: float
) -> Int[np.ndarray, " chosen"]:
    """Return the up to `limit` best above `min_score`, best first; of equals the earlier.

    >>> best(np.array([1.0, 3, 1, 2, 1]), 3, 0.5).tolist()
    [1, 3, 0]
    """
    above = np.flatnonzero(scores > min_score)
    if len(above) > limit:
        # The few that remain are sorted, not all: those above the last place, and the first
        # of those that share it.
        held = scores[above]
        last = np.partition(held, len(held) - limit)[len(held) - limit]
        sure = held > last
        ties = np.flatnonzero(held == last)[: limit - int(sure.sum())]
        sure[ties] = True
        above = above[sure]
    return above[np.argsort(-scores[above], kind="stable")]


def detect_shard(spec: DetectSpec, shard_id: str, destination: Path) -> DetectStats:
    """Detect in one shard's images and write a table of `DETECTIONS`.

    Raises:
        InputError: the classifiers or the regressors were trained on other vectors.
    """
    known = classifiers.load(spec.classifiers)
    known.check_fits(spec.store.made_from, spec.store.root)
    regression = (
        None if spec.regressors is None else _Regression(spec, spec.regressors, known.classes)
    )
    images = spec.store.images_of(shard_id).select(["image_id", "width", "height"]).to_pylist()
    sizes = {row["image_id"]: (row["width"], row["height"]) for row in images}
    score, count = known.scorer(), 0
    tables = [DETECTIONS.empty_table()]
    for rows, block in row_groups(spec.store, shard_id, ["image_id", *BOX_COLUMNS, "source"]):
        boxes, truth = box_array(rows), is_ground_truth(rows)
        for image_id, part in image_slices(rows):
            own = np.flatnonzero(~truth[part])
            # An image a call, as in mining: scores do not depend on its neighbours.
            scores, size = score(block[part])[own], sizes[image_id]
            move = regression and regression.of(image_id, boxes[part], block[part], own, size)
            found, classes, moved = detect(boxes[part][own], scores, size, spec.detection, move)
            names = np.array(known.classes, object)[classes]
            tables.append(detections_table(image_id, names, scores[found, classes], moved))
            count += 1
    table = pa.concat_tables(tables)
    with written_aside(destination / f"{shard_id}.parquet") as aside:
        pq.write_table(table, aside)
    return DetectStats(count, len(table))


class _Regression:
    """Box regressors, and the vectors that they read."""

    def __init__(self, spec: DetectSpec, folder: Path, classes: tuple[str, ...]) -> None:
        known, store = box_regressors.load(folder), spec.pool5 or spec.store
        known.check_fits(store.made_from, store.root)
        if known.classes != classes:
            raise InputError(
                f"{folder} moves windows of {', '.join(known.classes)}, and the classifiers in "
                f"{spec.classifiers} know {', '.join(classes)}: run the recipe again"
            )
        self._mover = known.mover()
        self._beside = None if spec.pool5 is None else Beside(spec.pool5, spec.store)

    def of(
        self,
        image_id: str,
        boxes: Float[np.ndarray, "windows 4"],
        block: Block,
        own: Int[np.ndarray, " candidates"],
        size: tuple[int, int],
    ) -> Move:
        """Return what moves the windows of an image.

        Args:
            image_id: of the image.
            boxes: all its windows.
            block: their vectors in the store that was scored.
            own: those that detections may be of.
            size: `(width, height)`.
        """

        def move(
            found: Int[np.ndarray, " found"], classes: Int[np.ndarray, " found"]
        ) -> Float[np.ndarray, "found 4"]:
            windows = own[found]
            beside = self._beside
            held = (
                block[windows] if beside is None else beside.vectors(image_id, len(boxes), windows)
            )
            return self._mover(boxes[windows], classes, held, size)

        return move


def detections_table(
    image_id: str,
    names: np.ndarray,
    scores: Float[np.ndarray, " found"],
    boxes: Float[np.ndarray, "found 4"],
) -> pa.Table:
    """Return the detections of an image as a table of `DETECTIONS`."""
    columns = [np.full(len(names), image_id, object), names, scores, *boxes.T]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, DETECTIONS, strict=True)]
    return pa.table(arrays, schema=DETECTIONS)


def read_detections(folder: Path) -> pa.Table:
    """Return the detections of all shards, in shard order."""
    tables = []
    for path in sorted(folder.glob("*.parquet")):
        require_plain(path)
        tables.append(pq.read_table(path))
    return pa.concat_tables([DETECTIONS.empty_table(), *tables])
