"""Average precision of detections as PASCAL VOC computes it (SPEC §11)."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8

from pipeline.errors import InputError
from pipeline.evaluation.matching import (
    DIFFICULT,
    TRUE,
    Matches,
    class_index,
    known_images,
    match,
)
from pipeline.evaluation.precision import METHODS, average_precision
from pipeline.evaluation.ranking import best_first, groups
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    TableLike,
    read_detections,
    read_ground_truth,
)


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class after each counted detection, best score first.

    Detections that fell to difficult objects are not counted and not here.

    Attributes:
        recall: true ones so far over ``positives``; nan where there are no positives.
        precision: true ones so far over detections so far.
        scores: of the detections, falling.
        true_positive: whether each is true.
        positives: objects to be found: those that are not difficult.
    """

    recall: Float[np.ndarray, " detections"]
    precision: Float[np.ndarray, " detections"]
    scores: Float[np.ndarray, " detections"]
    true_positive: Bool[np.ndarray, " detections"]
    positives: int


@dataclass(frozen=True)
class Evaluation:
    """Average precisions in 0..1, with what they were computed from.

    Attributes:
        ap: per class; nan for a class without positives, 0 for one with positives that was
            never detected.
        mean_ap: mean over the classes that have positives; nan if none has.
        curves: per class.
        matches: what became of each detection, in table order; every class, also unlisted ones.
        without_positives: the classes that ``mean_ap`` leaves out.
        iou: the IoU that sufficed.
        method: ``"voc07"`` or ``"area"``.
    """

    ap: dict[Hashable, float]
    mean_ap: float
    curves: dict[Hashable, Curve]
    matches: Matches
    without_positives: tuple[Hashable, ...]
    iou: float
    method: str

    def _repr_html_(self) -> str:
        from pipeline.report import notebook

        return notebook.evaluation(self)


def evaluate_detections(
    detections: TableLike,
    ground_truth: TableLike,
    iou: float | int = 0.5,
    method: str = "voc07",
    classes: Iterable[Hashable] | None = None,
    image_ids: Iterable[Hashable] | None = None,
) -> Evaluation:
    """Average precision per class, their mean, and the curves behind them.

    Args:
        detections: columns ``image_id, class, score`` and the box; see ``tables``.
        ground_truth: columns ``image_id, class``, the box, optionally ``difficult``.
        iou: IoU that suffices, in (0, 1].
        method: ``"voc07"`` (11 points) or ``"area"``.
        classes: classes to report, in this order; rows of other classes count nowhere. Default:
            every class of either table, sorted.
        image_ids: all images that were searched; needed when some have no objects.

    Raises:
        InputError: a malformed table, an unknown image, or an impossible ``iou`` or ``method``.

    Source:
        SPEC §11; the matching rule is ``match_detections``'s.

    Examples:
        >>> truth = [{"image_id": "a", "class": "cat", "box": (0, 0, 10, 10)}]
        >>> found = [{"image_id": "a", "class": "cat", "score": 0.9, "box": (0, 0, 10, 8)}]
        >>> evaluate_detections(found, truth).ap
        {'cat': 1.0}
    """
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    return evaluate_tables(found, truth, float(iou), method, classes, image_ids)


def evaluate_tables(
    found: Detections,
    truth: GroundTruth,
    iou: float,
    method: str,
    classes: Iterable[Hashable] | None = None,
    image_ids: Iterable[Hashable] | None = None,
) -> Evaluation:
    """Evaluate tables that were read, as `evaluate_detections` says.

    Raises:
        InputError: an unknown image, or an impossible `iou` or `method`.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r} of average precision; choose 'voc07' or 'area'")
    matches = match(found, truth, known_images(found, truth, image_ids), iou)
    index = class_index(found, truth)
    rows_of = dict(zip(index, groups(found.classes.within(index), len(index)), strict=True))
    to_find = np.bincount(truth.classes.within(index)[~truth.difficult], minlength=len(index))
    names = sorted(index, key=_in_order) if classes is None else tuple(dict.fromkeys(classes))
    curves: dict[Hashable, Curve] = {}
    for name in names:
        rows = rows_of.get(name, np.zeros(0, np.int64))
        rows = rows[best_first(found.scores[rows])]
        positives = int(to_find[index[name]]) if name in index else 0
        curves[name] = _curve(matches.codes[rows], found.scores[rows], positives)
    return _summary(curves, matches, iou, method)


def _in_order(name: Hashable) -> tuple[bool, float, str]:
    """Numbers before names, numbers by value."""
    number = float(name) if isinstance(name, int) else 0.0
    return not isinstance(name, int), number, str(name)


def _curve(
    codes: Int8[np.ndarray, " ranked"], scores: Float[np.ndarray, " ranked"], positives: int
) -> Curve:
    counted = codes != DIFFICULT
    true = codes[counted] == TRUE
    true_so_far = np.cumsum(true)
    # One correctly rounded division each, so that 3 of 5 is the same float64 as the threshold 0.6.
    recall = true_so_far / positives if positives else np.full(len(true), np.nan)
    precision = true_so_far / np.arange(1, len(true) + 1)
    return Curve(recall, precision, scores[counted], true, positives)


def _summary(
    curves: dict[Hashable, Curve], matches: Matches, iou: float, method: str
) -> Evaluation:
    ap = {
        name: average_precision(curve.recall, curve.precision, method)
        if curve.positives
        else float("nan")
        for name, curve in curves.items()
    }
    counted = [ap[name] for name, curve in curves.items() if curve.positives]
    return Evaluation(
        ap=ap,
        mean_ap=float(np.mean(counted)) if counted else float("nan"),
        curves=curves,
        matches=matches,
        without_positives=tuple(name for name in curves if not curves[name].positives),
        iou=iou,
        method=method,
    )
