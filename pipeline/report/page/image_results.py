"""What a page shows of a run's answers about whole images: gathered once, and kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from pipeline.evaluation.answers import Answers
from pipeline.evaluation.classification import known_mean, ranked
from pipeline.evaluation.ranking import best_first
from pipeline.report.page import image_galleries, kept, thumbnails
from pipeline.report.page.charts import curve_corners
from pipeline.report.page.content import ClassAnswers, Confused, Confusion, Strip

MOST_DRAWN = 40  # classes of which all confusions are kept, and drawn
MOST_TOLD = 30  # pairs of classes


@dataclass(frozen=True)
class ImageResults:
    """What became of each class, with thumbnails."""

    classes: list[ClassAnswers]
    mean_ap: float
    mean_accuracy: float | None
    """None, and so is what follows, where images show several classes."""
    confusion: Confusion | None
    galleries: dict[str, list[Strip]]
    unopened: int
    """Images that were chosen for a thumbnail, and could not be decoded."""


def gather(
    splits: Callable[[], Iterable[Answers]],
    judged: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    load: thumbnails.Load,
) -> ImageResults:
    """Return what the page shows of answers about whole images.

    Args:
        splits: gives the answers that were judged, one split after the other.
        judged: of each split, a `Judged` as JSON has it: null where there is no number.
        classes: in their order.
        load: gives an image by its id, RGB.
    """
    single = all(each["confusion"] is not None for each in judged)
    ap = {name: known_mean(each["ap"][name] for each in judged) for name in classes}
    confusion = None
    if single:
        counts = np.sum([each["confusion"] for each in judged], axis=0)
        own = [known_mean(each["class_accuracy"][name] for each in judged) for name in classes]
        made = [_single(name, ap[name], own[k], counts, k) for k, name in enumerate(classes)]
        confusion = confused(counts, classes)
    else:
        (answers,) = splits()  # random splits draw from images of one class each
        made = [_several(name, ap[name], answers, k) for k, name in enumerate(classes)]
    chosen = image_galleries.choose(splits(), classes, single)
    strips, unopened = thumbnails.cut(chosen, load)
    mean_accuracy = known_mean(each.score for each in made) if single else None
    return ImageResults(made, known_mean(ap.values()), mean_accuracy, confusion, strips, unopened)


def read(folder: Path) -> ImageResults:
    """Return what `kept.keep` wrote; raises what `kept.read` does."""
    return kept.read(folder, ImageResults)


def confused(counts: Int[np.ndarray, "classes classes"], classes: Sequence[str]) -> Confusion:
    """Return who is taken for whom, the most frequent mistakes first.

    Args:
        counts: of images, by their class and by the one they are taken for.
        classes: in their order.
    """
    mistakes = counts * ~np.eye(len(classes), dtype=bool)
    shown, taken_for = np.nonzero(mistakes)
    order = np.argsort(-mistakes[shown, taken_for], kind="stable")[:MOST_TOLD]
    images = counts.sum(axis=1)
    frequent = [
        Confused(classes[a], classes[b], int(mistakes[a, b]), int(images[a]))
        for a, b in zip(map(int, shown[order]), map(int, taken_for[order]), strict=True)
    ]
    whole = tuple(map(tuple, counts.tolist())) if len(classes) <= MOST_DRAWN else None
    right = int(np.trace(counts))
    return Confusion(whole, tuple(frequent), len(shown), int(counts.sum()), right)


def _single(
    name: str, ap: float, accuracy: float, counts: Int[np.ndarray, "classes classes"], k: int
) -> ClassAnswers:
    right = int(counts[k, k])
    images, taken = int(counts[k].sum()), int(counts[:, k].sum()) - right
    return ClassAnswers(name, ap, accuracy, images, right, taken)


def _several(name: str, ap: float, answers: Answers, k: int) -> ClassAnswers:
    labels, scores = answers.labels[:, k], answers.scores[:, k]
    images = int((labels > 0).sum())
    counted = labels[best_first(scores)]
    right = int((counted[counted != 0][:images] > 0).sum())
    curve = curve_corners(*ranked(scores, labels))
    return ClassAnswers(name, ap, None, images, right, curve=curve)
