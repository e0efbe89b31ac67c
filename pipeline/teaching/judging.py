"""How good a classifier is, as far as marks tell: average precision over images it did not see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int8, Shaped

from pipeline.boxes import iou
from pipeline.config import Detection
from pipeline.detection import detect
from pipeline.evaluation import evaluate_detections
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.labelling import is_ground_truth
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, box_array, image_slices
from pipeline.teaching.locating import NEAR_ENOUGH
from pipeline.teaching.marks import Mark
from pipeline.teaching.ranking import scores_of
from pipeline.teaching.view import TaughtStore

FOLDS = 5
LEAST_IMAGES = 2  # with the class: one to learn from, and one to be judged by
CURVE_POINTS = 101


@dataclass(frozen=True)
class Problem:
    """The rows that a classifier was fitted to, and how to fit it to some of them."""

    vectors: Float[np.ndarray, "rows dim"]
    labels: Int8[np.ndarray, " rows"]
    images: Shaped[np.ndarray, " rows"]
    solve: Callable[[Float[np.ndarray, "some dim"], Int8[np.ndarray, " some"]], Classifiers]

    def of(self, chosen: Bool[np.ndarray, " rows"]) -> Classifiers:
        """Return the classifier of some rows."""
        return self.solve(self.vectors[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Judged:
    """Average precision by cross-validation."""

    ap: float
    images: int
    """That were judged."""
    folds: int
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    """The curve, at most `CURVE_POINTS` of its points."""


def truth_of(view: TaughtStore) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of each image that was judged or has some, each object once.

    Several people may have said yes to one object, by boxes that differ, and its label may be
    there, too: detections keep one window of it, so the others could not be found.
    """
    here = [each.mark for each in view.located if each.shard_id]  # others have no windows to judge
    rejected = {mark for mark in here if not mark.yes}
    truth: dict[str, list[dict[str, Any]]] = {mark.image_id: [] for mark in here}
    doubtful: list[dict[str, Any]] = []
    for row in view.objects.to_pylist() if view.labelled else ():
        box = tuple(row[name] for name in BOX_COLUMNS)
        if row["class"] != view.class_ or Mark(row["image_id"], box, yes=False) in rejected:
            continue  # a person has looked at it, and it is none
        known = truth.setdefault(row["image_id"], [])
        (doubtful if row["difficult"] else known).append(row)
    marked = [
        {"image_id": mark.image_id, **dict(zip(BOX_COLUMNS, mark.box, strict=True))}
        for mark in here
        if mark.yes
    ]
    for row in (*marked, *doubtful):
        if not _is_among(row, truth[row["image_id"]]):
            truth[row["image_id"]].append(row)
    return truth


def _is_among(row: Mapping, known: Sequence[Mapping]) -> bool:
    """Return whether a box is of an object that is known already."""
    boxes = [[each[name] for name in BOX_COLUMNS] for each in (row, *known)]
    return bool((iou(boxes[:1], boxes[1:]) >= NEAR_ENOUGH).any())


def cross_validate(
    store: Store,
    problem: Problem,
    truth: Mapping[str, Sequence[Mapping]],
    others: Sequence[str] = (),
) -> Judged | None:
    """Return how well classifiers find the objects of images that they were not fitted to.

    Args:
        store: has the images.
        problem: what is fitted, to all images but those of a fold.
        truth: rows of objects (box and difficult) of each image that has some.
        others: images to judge, too; what is found there is wrong.

    Returns:
        None where fewer than two images have the class.
    """
    having = sorted(image_id for image_id in truth if _counts(truth[image_id]))
    if len(having) < LEAST_IMAGES:
        return None
    folds = min(FOLDS, len(having))
    rest = sorted({*truth, *others} - set(having))
    fold_of = {image_id: k % folds for part in (having, rest) for k, image_id in enumerate(part)}
    fitted = []
    for fold in range(folds):
        seen = np.array([fold_of.get(image_id) != fold for image_id in problem.images], bool)
        if len(np.unique(problem.labels[seen])) < 2:
            return None  # all that was marked of one kind lies in these images
        fitted.append(problem.of(seen))
    found = _detections(store, fold_of, fitted)
    objects = [
        {"image_id": image_id, "class": "", "difficult": row.get("difficult", False)}
        | {"box": [row[name] for name in BOX_COLUMNS]}
        for image_id in sorted(truth)
        for row in truth[image_id]
    ]
    judged = evaluate_detections(found, objects, classes=[""], image_ids=list(fold_of))
    curve = judged.curves[""]
    points = np.linspace(0, len(curve.recall) - 1, min(CURVE_POINTS, len(curve.recall)))
    at = np.unique(points.round().astype(int))
    recall, precision = (
        tuple(each[at].round(4).tolist()) for each in (curve.recall, curve.precision)
    )
    return Judged(float(judged.ap[""]), len(fold_of), folds, recall, precision)


def _counts(rows: Sequence[Mapping]) -> bool:
    return any(not row.get("difficult", False) for row in rows)


def _detections(
    store: Store, fold_of: Mapping[str, int], fitted: Sequence[Classifiers]
) -> list[dict]:
    """Return what is found in each image by the classifier that has not seen it."""
    vectors, settings = Vectors(store), Detection(min_score=-1e9)
    by_shard: dict[int, None] = {}
    for image_id in sorted(fold_of):
        if (shard := store.shard_of(image_id)) is not None:
            by_shard[shard] = None
    found: list[dict] = []
    for shard in by_shard:
        first = int(vectors.first[shard])
        columns = ["image_id", *BOX_COLUMNS, "source"]
        for table in scan_shard(store, store.shards[shard].shard_id, columns):
            boxes, truth = box_array(table), is_ground_truth(table)
            for image_id, part in image_slices(table):
                if image_id not in fold_of:
                    continue
                own = part.start + np.flatnonzero(~truth[part])
                scores = scores_of(vectors, first + own, fitted[fold_of[image_id]])
                # No larger than its windows reach: clipping needs no size of the image then.
                size = boxes[part][:, 2:].max(axis=0).tolist()
                kept, _, clipped = detect(boxes[own], scores[:, None], size, settings)
                found += [
                    {"image_id": image_id, "class": "", "score": float(score), "box": box}
                    for score, box in zip(scores[kept], clipped.tolist(), strict=True)
                ]
            first += len(table)
    return found
