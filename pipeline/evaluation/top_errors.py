"""Top-1 and top-5 errors of a network on image files, by test views, so many images a task."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline import images
from pipeline.errors import InputError, RecipeError
from pipeline.evaluation.classification import hits
from pipeline.evaluation.views import TestViews, probabilities
from pipeline.extraction import NetworkSpec
from pipeline.networks import Network
from pipeline.threads import torch_threads


@dataclass(frozen=True)
class TestSpec:
    """How images are classified; small enough to send anywhere."""

    __test__ = False  # no test, whatever pytest makes of the name

    network: NetworkSpec
    views: tuple[TestViews, ...]
    """Each is judged by itself."""
    classes: int
    """Of the labels; the network must give scores of as many."""
    top: tuple[int, ...] = (1, 5)


@dataclass(frozen=True)
class TestImage:
    """A test image."""

    __test__ = False

    image_id: str
    file: Path
    label: int
    """Index of its class."""


@dataclass(frozen=True)
class ErrorStats:
    """How a network did on some images: counts, so that those of several tasks add up."""

    images: int
    """How many could be read, in every view."""
    wrong: dict[str, int]
    """Of them, those without their label among the best: by `error_name`."""
    unreadable: dict[str, str]
    """Reasons, by image id."""


def error_name(k: int, kind: str) -> str:
    """Return how an error is called.

    >>> error_name(1, "10")
    'top-1 error of 10'
    """
    return f"top-{k} error of {kind}"


def classify(spec: TestSpec, items: Sequence[TestImage]) -> ErrorStats:
    """Classify image files by test views. Those too long and thin are counted as unreadable.

    Raises:
        RecipeError: the network does not take such views, or gives scores of other classes.
        InputError: its weights cannot be read, or give no numbers.
    """
    with torch_threads(1):  # sums of several round differently
        network = spec.network.load()
        for of in spec.views:
            of.require(network)
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        wrong = {error_name(k, of.kind): 0 for of in spec.views for k in spec.top}
        unreadable: dict[str, str] = {}
        for item in items:
            try:
                found = _wrong(network, spec, item)
            except images.UndecodableImage as error:
                unreadable[item.image_id] = str(error)
                continue
            for name in found:
                wrong[name] += 1
    return ErrorStats(len(items) - len(unreadable), wrong, unreadable)


def _wrong(network: Network, spec: TestSpec, item: TestImage) -> list[str]:
    """Return the errors in which an image counts."""
    found = []
    for of, scores in zip(spec.views, _scores(network, spec, item), strict=True):
        if len(scores) != spec.classes:
            raise RecipeError(
                f"{network.name} gives scores of {len(scores)} classes, and the dataset has "
                f"{spec.classes}: they must be the ones that it was trained for, in their order"
            )
        if not np.isfinite(scores).all():
            raise InputError(
                f"{network.name} gives scores that are no numbers for {item.file}: its weights "
                "are damaged, or not of such images"
            )
        for k in spec.top:
            if not hits(scores[None], [item.label], k)[0]:
                found.append(error_name(k, of.kind))
    return found


def _scores(network: Network, spec: TestSpec, item: TestImage) -> list[np.ndarray]:
    try:
        image = images.load(item.file)
    except OSError as error:
        raise images.UndecodableImage(error.strerror or str(error)) from None
    return [probabilities(network, image, of) for of in spec.views]


def errors(stats: Iterable[ErrorStats]) -> dict[str, float]:
    """Return the shares of images that are wrong, in 0..1, over all tasks.

    Raises:
        InputError: no image could be read.

    >>> errors([ErrorStats(3, {"top-1": 2}, {}), ErrorStats(7, {"top-1": 3}, {})])
    {'top-1': 0.5}
    """
    held = list(stats)
    count = sum(each.images for each in held)
    if not count:
        lost = [f"{name}: {why}" for one in held for name, why in one.unreadable.items()]
        raise InputError(f"no image could be classified; {len(lost):,} unreadable: {lost[:3]}")
    total = Counter[str]()
    for each in held:
        total.update(each.wrong)
    return {name: number / count for name, number in total.items()}
