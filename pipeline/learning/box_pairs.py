"""Which windows a class's box regressor learns from, and how far each is from its object (SPEC §8).

A table a shard, small: no vector is in it.

| column | type | |
|---|---|---|
| row | int32 | place of the window in its shard; ascending within a class |
| class | int16 | of the object, as its place among the classes |
| dx dy dw dh | float64 | the move from the window to the object, `pipeline.boxes.encode` |
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from pipeline.boxes import encode, iou
from pipeline.config import Regression
from pipeline.learning import sampling
from pipeline.learning.labelling import Objects, is_ground_truth, objects_by_image
from pipeline.store.files import written_aside
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, box_array, image_slices

NORMS = 3  # purpose of the sample over which the mean norm is taken
MOVES = ("dx", "dy", "dw", "dh")


@dataclass(frozen=True)
class RegressionSpec:
    """What every task of a box regression needs to know; small, whatever the store holds."""

    store: Store
    """Of pool5, whatever classifiers read."""
    classes: tuple[str, ...]
    settings: Regression
    difficult: bool
    """Whether difficult objects are learnt from."""
    norm_sample: int
    """Windows over which the mean norm is taken, in all."""
    seed: int

    @property
    def share_of_norms(self) -> float:
        """Chance of a window to count towards the mean norm."""
        return min(1.0, self.norm_sample / max(self.store.totals.rows, 1))


@dataclass(frozen=True)
class PairStats:
    """What `pair_shard` found."""

    pairs: list[int]
    """Of each class."""
    norm_sum: float
    norm_count: int


def pair_shard(spec: RegressionSpec, shard_id: str, folder: Path) -> PairStats:
    """Write the pairs of one shard; of vectors only the sample of norms is read."""
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    table = spec.store.objects_of(shard_id)
    objects = objects_by_image(table, spec.classes, spec.difficult)
    rows, classes, moves = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 4))]
    sampled = [np.zeros(0, np.int64)]
    first, needed = 0, ["image_id", *BOX_COLUMNS, "source"]
    for table in scan_shard(spec.store, shard_id, needed):
        boxes, truth = box_array(table), is_ground_truth(table)
        for image_id, part in image_slices(table):
            near = objects.get(image_id, nothing)
            window, k, move = pairs(boxes[part], truth[part], near, spec.settings.min_iou)
            rows.append(first + part.start + window)
            classes.append(k)
            moves.append(move)
            random = sampling.image_random(image_id, spec.seed, NORMS)
            measured = random.random(part.stop - part.start) < spec.share_of_norms
            sampled.append(first + part.start + np.flatnonzero(measured))
        first += len(table)
    found = _write(folder, shard_id, *(np.concatenate(each) for each in (rows, classes, moves)))
    counts = np.bincount(found, minlength=len(spec.classes))
    vectors = Vectors(spec.store, [spec.store.record(shard_id)]).take(np.concatenate(sampled))
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return PairStats(counts.tolist(), float(norms.sum()), len(norms))


def pairs(
    boxes: Float[np.ndarray, "windows 4"],
    is_truth: Bool[np.ndarray, " windows"],
    objects: Objects,
    min_iou: float,
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Float[np.ndarray, "pairs 4"]]:
    """Return the windows of an image to learn from, the class of each, and its move.

    A window goes to the object that it overlaps most, of any class and of equals the first, if
    by `min_iou` or more; an object itself is a window that need not move.

    Args:
        boxes: the windows.
        is_truth: windows that were put in as ground truth; of the others every one may be a pair.
        objects: boxes, classes, and whether each is learnt from.
        min_iou: that suffices.

    Source:
        Girshick et al., R-CNN, appendix C; SPEC §8.
    """
    object_boxes, object_classes, counts = objects
    overlaps = iou(boxes, object_boxes)
    if not overlaps.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4))
    best = overlaps.argmax(axis=1)
    near = ~is_truth & (overlaps.max(axis=1) >= min_iou) & counts[best]
    windows, theirs = [np.flatnonzero(near)], [best[near]]
    truth = np.flatnonzero(is_truth)
    for number in np.flatnonzero(counts):
        same = truth[(boxes[truth] == object_boxes[number]).all(axis=1)][:1]
        windows.append(same)
        theirs.append(np.full(len(same), number))
    window, object_ = np.concatenate(windows), np.concatenate(theirs)
    moves = encode(boxes[window], object_boxes[object_])
    return window, object_classes[object_], moves


@dataclass(frozen=True)
class Pairs:
    """What one class learns from."""

    rows: Int[np.ndarray, " pairs"]
    """By their number through all shards."""
    moves: Float[np.ndarray, "pairs 4"]


def read_pairs(
    folder: Path, spec: RegressionSpec, k: int, first: Int[np.ndarray, " shards_and_one"]
) -> Pairs:
    """Return the pairs of a class, of all shards in order.

    Args:
        folder: where `pair_shard` wrote.
        spec: of the regression.
        k: place of the class.
        first: number of each shard's first row (`pipeline.store.Vectors.first`).
    """
    rows, moves = [np.zeros(0, np.int64)], [np.zeros((0, 4))]
    for entry, start in zip(spec.store.shards, first.tolist(), strict=False):
        table = pq.read_table(_path(folder, entry.shard_id), filters=[("class", "==", k)])
        rows.append(start + table["row"].to_numpy().astype(np.int64))
        moves.append(np.stack([table[name].to_numpy() for name in MOVES], axis=1))
    return Pairs(np.concatenate(rows), np.concatenate(moves))


def _write(
    folder: Path,
    shard_id: str,
    rows: Int[np.ndarray, " pairs"],
    classes: Int[np.ndarray, " pairs"],
    moves: Float[np.ndarray, "pairs 4"],
) -> Int[np.ndarray, " pairs"]:
    """Write a shard's pairs in order of class and row; return the classes."""
    order = np.lexsort((rows, classes))
    columns = {
        "row": rows[order].astype(np.int32),
        "class": classes[order].astype(np.int16),
        **dict(zip(MOVES, moves[order].T, strict=True)),
    }
    with written_aside(_path(folder, shard_id)) as aside:
        pq.write_table(pa.table(columns), aside)
    return classes


def _path(folder: Path, shard_id: str) -> Path:
    return folder / f"{shard_id}.parquet"
