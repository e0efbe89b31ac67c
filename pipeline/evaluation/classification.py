"""How well scores tell what images show: average precision, accuracy, who is taken for whom."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int8

from pipeline.errors import InputError
from pipeline.evaluation.precision import average_precision
from pipeline.evaluation.ranking import best_first


@dataclass(frozen=True)
class Judged:
    """What scores of images are worth.

    Attributes:
        ap: Average precision of each class; nan for one that no image shows.
        accuracy: Share of the images whose highest score is their class's. None, and so are all
            that follow, where some image shows several classes, or none.
        top5: Share whose class is among the five highest scores; of fewer classes, among all.
        class_accuracy: Share of each class's images that are right; nan for one without images.
        confusion: ``[classes classes]`` images, by their class and by the one they are taken for.
    """

    ap: dict[str, float]
    accuracy: float | None = None
    top5: float | None = None
    class_accuracy: dict[str, float] | None = None
    confusion: Int[np.ndarray, "classes classes"] | None = None

    @property
    def mean_ap(self) -> float:
        """The mean over classes that some image shows; nan where none does."""
        return known_mean(self.ap.values())

    @property
    def mean_accuracy(self) -> float | None:
        """The mean of the classes' accuracies, as for Caltech-101 (SPEC §10)."""
        known = self.class_accuracy
        return None if known is None else known_mean(known.values())


def judge_images(
    scores: Float[np.ndarray, "images classes"],
    labels: Int8[np.ndarray, "labelled of_classes"],
    classes: Sequence[str],
    method: str = "voc07",
) -> Judged:
    """Measure what scores of images are worth.

    Equal scores keep the order of images in a ranking, and that of classes in an image.

    Args:
        scores: Of each image for each class.
        labels: 1 shown, -1 not, 0 hardly to be told: such an image does not count in the ranking
            of that class, for or against (SPEC §10).
        classes: Their names.
        method: Of average precision: `voc07` or `area`.

    Raises:
        InputError: Shapes differ, or a score is not a number.
    """
    if scores.shape != labels.shape or scores.shape[1] != len(classes):
        raise InputError(
            f"scores are {list(scores.shape)}, labels {list(labels.shape)}, for {len(classes)} "
            "classes: give a score and a label of each image for each class"
        )
    if np.isnan(scores).any():
        raise InputError("a score is not a number: its image's vector holds none, or the weights")
    ap = {
        name: _average_precision(scores[:, k], labels[:, k], method)
        for k, name in enumerate(classes)
    }
    if not len(labels) or ((labels > 0).sum(axis=1) != 1).any():
        return Judged(ap)
    shown = labels.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (shown, scores.argmax(axis=1)), 1)
    own, counts = np.diag(confusion), confusion.sum(axis=1)
    right = np.divide(own, counts, out=np.full(len(classes), np.nan), where=counts > 0)
    return Judged(
        ap,
        float(own.sum() / len(labels)),
        float(hits(scores, shown, 5).mean()),
        dict(zip(classes, right.tolist(), strict=True)),
        confusion,
    )


def hits(
    scores: Float[np.ndarray, "images classes"],
    labels: Int[np.ndarray, " images"] | Sequence[int],
    k: int,
) -> np.ndarray:
    """Return which images have their label among the `k` highest scores.

    Of equal scores the lower class index goes first, so that scores that say nothing are not right.

    >>> hits(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), [2, 1], 1).tolist()
    [False, False]
    >>> hits(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), [2, 1], 2).tolist()
    [True, True]
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return (best == np.asarray(labels)[:, None]).any(axis=1)


def known_mean(values: Iterable[float | None]) -> float:
    """Return the mean of the numbers that are known; nan where none is."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of some figures and their standard deviation, none of a single one.

    The deviation is that of these figures themselves; an estimate for all others from three of them
    would be 1.22 times as large.

    >>> mean_and_spread([1.0, 3.0]), mean_and_spread([2.0])
    ((2.0, 1.0), (2.0, None))
    """
    return float(np.mean(values)), float(np.std(values)) if len(values) > 1 else None


def ranked(
    scores: Float[np.ndarray, " images"], labels: Int8[np.ndarray, " images"]
) -> tuple[Float[np.ndarray, " counted"], Float[np.ndarray, " counted"]]:
    """Return recall and precision after each image that counts, best score first.

    Args:
        scores: for one class.
        labels: 1 shown, -1 not, 0 hardly to be told, which does not count.

    Returns:
        nothing at all where no image shows the class.

    >>> recall, precision = ranked(np.array([0.9, 0.2, 0.5]), np.array([1, 1, -1], np.int8))
    >>> recall.tolist(), precision.round(2).tolist()
    ([0.5, 0.5, 1.0], [1.0, 0.5, 0.67])
    """
    order = best_first(scores)
    true = labels[order][labels[order] != 0] > 0
    if not true.any():
        return np.zeros(0), np.zeros(0)
    found = np.cumsum(true)
    return found / found[-1], found / np.arange(1, len(true) + 1)


def _average_precision(
    scores: Float[np.ndarray, " images"], labels: Int8[np.ndarray, " images"], method: str
) -> float:
    recall, precision = ranked(scores, labels)
    return average_precision(recall, precision, method) if len(recall) else float("nan")
