"""Average precision of one ranked list: PASCAL VOC's two definitions (SPEC §11)."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from pipeline.errors import InputError

METHODS = ("voc07", "area")

THRESHOLDS = np.arange(11) / 10  # k / 10, each correctly rounded; a running 0.1 gives 0.6000…01
# Half a float32 step below 1. A recall read as float32 lies at most this far under its fraction
# (7/10 becomes 0.69999999), and with fewer than 1.6 million positives no other fraction does.
ROUNDING = 2.0**-24


def average_precision(recall: ArrayLike, precision: ArrayLike, method: str = "voc07") -> float:
    """Average precision from recall and precision after each ranked detection, best score first.

    ``voc07`` is the mean, over t = 0, 0.1 … 1, of the highest precision at a recall ≥ t. A recall
    that is t but for its rounding reaches t: 3/5 reaches 0.6 and 7/10 reaches 0.7, in float64 and
    in float32. ``area`` is the area under the precision's envelope, made to fall monotonically.
    An empty list gives 0.

    Args:
        recall: ``[detections]``, in 0..1, never falling.
        precision: ``[detections]``, in 0..1.
        method: ``"voc07"`` or ``"area"``.

    Raises:
        InputError: lengths differ, a value is not a number, recall falls, or no such method.

    Source:
        Everingham et al., The PASCAL VOC challenge, IJCV 2010, §4.2; SPEC §11.

    Examples:
        >>> average_precision([0.25, 0.25, 0.5], [1.0, 0.5, 0.75], "area")
        0.4375
    """
    recalls, precisions = _ranked(recall, "recall"), _ranked(precision, "precision")
    if recalls.shape != precisions.shape:
        raise InputError(f"{recalls.size} recalls but {precisions.size} precisions; give pairs")
    if np.any(np.diff(recalls) < 0):
        raise InputError("recall falls along the ranking; give it after each detection, best first")
    if method == "voc07":
        return _eleven_points(recalls, precisions)
    if method == "area":
        return _area(recalls, precisions)
    raise InputError(f"no method {method!r} of average precision; choose 'voc07' or 'area'")


def _ranked(values: ArrayLike, name: str) -> Float[np.ndarray, " detections"]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}; give one axis, a value per detection")
    if np.isnan(array).any():
        raise InputError(f"{name} has values that are not numbers; a class without positives?")
    return array


def envelope(precision: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """At each rank the highest precision from there on."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven_points(
    recall: Float[np.ndarray, " detections"], precision: Float[np.ndarray, " detections"]
) -> float:
    reached = np.searchsorted(recall, THRESHOLDS - ROUNDING, side="left")
    best = np.append(envelope(precision), 0.0)  # a recall never reached counts as precision 0
    return float(best[reached].mean())


def _area(
    recall: Float[np.ndarray, " detections"], precision: Float[np.ndarray, " detections"]
) -> float:
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * envelope(precision)))
