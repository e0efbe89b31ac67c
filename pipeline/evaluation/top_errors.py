"""Top-1 and top-5 errors of a network on image files, so many images a task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline import images
from pipeline.errors import InputError, RecipeError
from pipeline.evaluation.classification import hits
from pipeline.evaluation.views import TestViews, probabilities
from pipeline.extraction import NetworkSpec
from pipeline.threads import torch_threads


@dataclass(frozen=True)
class TestSpec:
    """How images are classified; small enough to send anywhere."""

    __test__ = False  # no test, whatever pytest makes of the name

    network: NetworkSpec
    views: TestViews
    classes: int
    """Of the labels; the network must give scores of as many."""
    top: tuple[int, ...] = (1, 5)


@dataclass(frozen=True)
class ErrorStats:
    """How a network did on some images: counts, so that those of several tasks add up."""

    images: int
    """How many could be read."""
    wrong: list[int]
    """Of them, those without their label among the best 1, 5, … of the spec."""
    unreadable: list[str]
    """Names and reasons of the others."""


def classify(spec: TestSpec, items: Sequence[tuple[Path, int]]) -> ErrorStats:
    """Classify image files by their test views. Those too long and thin are counted as unreadable.

    Args:
        spec: network and views.
        items: files, and the class index of each.

    Raises:
        RecipeError: the network does not take such views, or gives scores of other classes.
        InputError: its weights cannot be read.
    """
    with torch_threads(1):  # sums of several round differently
        return _classify(spec, items)


def _classify(spec: TestSpec, items: Sequence[tuple[Path, int]]) -> ErrorStats:
    network = spec.network.load()
    spec.views.require(network)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    wrong, unreadable, read = [0] * len(spec.top), list[str](), 0
    for path, label in items:
        try:
            image = images.decode(path.read_bytes())
            scores = probabilities(network, image, spec.views)[None]
        except (OSError, InputError) as error:
            unreadable.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            continue
        if scores.shape[1] != spec.classes:
            raise RecipeError(
                f"{network.name} gives scores of {scores.shape[1]} classes, and the dataset has "
                f"{spec.classes}: they must be the ones that it was trained for, in their order"
            )
        read += 1
        for place, k in enumerate(spec.top):
            wrong[place] += not hits(scores, [label], k)[0]
    return ErrorStats(read, wrong, unreadable)


def errors(stats: Iterable[ErrorStats]) -> tuple[float, ...]:
    """Return the shares of images that are wrong, in 0..1, over all tasks.

    Raises:
        InputError: no image could be read.

    >>> errors([ErrorStats(3, [2, 1], []), ErrorStats(7, [3, 0], [])])
    (0.5, 0.1)
    """
    held = list(stats)
    count = sum(each.images for each in held)
    if not count:
        lost = [each for one in held for each in one.unreadable]
        raise InputError(f"no image could be classified; {len(lost):,} unreadable: {lost[:3]}")
    return tuple(sum(of) / count for of in zip(*(each.wrong for each in held), strict=True))
