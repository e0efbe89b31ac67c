"""Scores to detections: the best windows of each class in each image, suppressed (SPEC §7)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from pipeline.boxes import as_boxes, clip, nms
from pipeline.config import Detection
from pipeline.learning import classifiers
from pipeline.store.files import written_aside
from pipeline.store.reader import Store, scan_shard
from pipeline.store.schema import BOX_COLUMNS, GROUND_TRUTH, box_array, image_slices, vectors

DETECTIONS = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("image_id", pa.string()),
            ("class", pa.string()),
            ("score", pa.float32()),
            *((corner, pa.float32()) for corner in BOX_COLUMNS),
        )
    ]
)


@dataclass(frozen=True)
class DetectSpec:
    """What a task needs to turn a shard into detections."""

    store: Store
    classifiers: Path
    detection: Detection


@dataclass(frozen=True)
class DetectStats:
    """What `detect_shard` wrote."""

    images: int
    detections: int


def detect(
    boxes: ArrayLike,
    scores: Float[np.ndarray, "windows classes"],
    image_size: Sequence[int | float],
    settings: Detection,
) -> tuple[Int[np.ndarray, " found"], Int[np.ndarray, " found"], Float[np.ndarray, "found 4"]]:
    """Return the detections of one image: window, class, and clipped box of each.

    Args:
        boxes: `[windows 4]`, ground truth left out.
        scores: of each window for each class.
        image_size: `(width, height)`.
        settings: of each class the best `per_class` above `min_score` go into suppression.

    Returns:
        Class by class, best first.

    >>> boxes, scores = [[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]], [[0.5], [0.9], [-2.0]]
    >>> detect(boxes, np.array(scores), (40, 40), Detection())[0].tolist()
    [1]
    """
    array = as_boxes(boxes)
    windows, classes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for k in range(scores.shape[1]):
        column = scores[:, k]
        ranked = np.argsort(-column, kind="stable")[: settings.per_class]
        ranked = ranked[column[ranked] > settings.min_score]
        kept = ranked[nms(array[ranked], column[ranked], settings.nms_iou)]
        windows.append(kept)
        classes.append(np.full(len(kept), k))
    window = np.concatenate(windows)
    return window, np.concatenate(classes), clip(array[window], *image_size)


def detect_shard(spec: DetectSpec, shard_id: str, destination: Path) -> DetectStats:
    """Detect in one shard's images and write a table of `DETECTIONS`."""
    known = classifiers.load(spec.classifiers)
    tables = [DETECTIONS.empty_table(), *_image_detections(spec, known, shard_id)]
    table = pa.concat_tables(tables)
    with written_aside(destination / f"{shard_id}.parquet") as aside:
        pq.write_table(table, aside)
    return DetectStats(len(tables) - 1, len(table))


def _image_detections(
    spec: DetectSpec, known: classifiers.Classifiers, shard_id: str
) -> Iterator[pa.Table]:
    sizes = {
        row["image_id"]: (row["width"], row["height"]) for row in spec.store.images.to_pylist()
    }
    columns = ["image_id", *BOX_COLUMNS, "source", "vector"]
    for rows in scan_shard(spec.store, shard_id, columns):
        scores, boxes = known.score(vectors(rows)), box_array(rows)
        truth = np.asarray(rows["source"].cast("string").to_pylist()) == GROUND_TRUTH
        for image_id, part in image_slices(rows):
            own = np.flatnonzero(~truth[part]) + part.start
            found, classes, clipped = detect(
                boxes[own], scores[own], sizes[image_id], spec.detection
            )
            names = [known.classes[k] for k in classes]
            columns_ = [[image_id] * len(found), names, scores[own][found, classes], *clipped.T]
            arrays = [
                pa.array(c, field.type) for c, field in zip(columns_, DETECTIONS, strict=True)
            ]
            yield pa.table(arrays, schema=DETECTIONS)


def read_detections(folder: Path) -> pa.Table:
    """Return the detections of all shards, in shard order."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables([DETECTIONS.empty_table(), *tables])
