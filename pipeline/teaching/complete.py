"""Training where every object of the class is known: the pipeline's own rounds, for one class."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int8

from pipeline import machine
from pipeline.config import Svm
from pipeline.learning import rounds, svm
from pipeline.learning.cache import read_members, read_vectors
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.mining import MiningSpec
from pipeline.learning.rounds import Trained
from pipeline.teaching.judging import Problem
from pipeline.threads import torch_threads


def train(spec: MiningSpec, folder: Path) -> tuple[Trained, int]:
    """Train one class with hard negatives from the whole store, in this process.

    With a store's own labels the classifier is the pipeline's.

    Args:
        spec: of one class.
        folder: for caches; may be removed afterwards.

    Returns:
        The training, and how many rounds it took.
    """
    # Products round by the number of threads: one each, and shards side by side.
    with torch_threads(1):
        started, _ = rounds.start(spec, _each, folder, 1)
        trained, history = rounds.mine(spec, started, _each, folder, 1)
    return trained, len(history)


def problem(spec: MiningSpec, trained: Trained) -> Problem:
    """Return what the last fit saw, with the image of each row."""
    shard_ids = [entry.shard_id for entry in spec.store.shards]
    vector = spec.store.spec
    vectors, labels, images = [], [], []
    for shard_id in shard_ids:
        members = read_members(trained.caches[-1], shard_id, 1)
        used = np.flatnonzero(members.positive[:, 0] | members.negative[:, 0])
        held = np.empty((len(used), vector.length), vector.dtype)
        rows = members.row[used]
        read_vectors(trained.caches, shard_id, rows, members.part[used], held)
        vectors.append(held)
        labels.append(np.where(members.positive[used, 0], 1, -1).astype(np.int8))
        counts = spec.store.record(shard_id).images
        names = np.array(sorted(counts), object)
        ends = np.cumsum([counts[name] for name in names])
        images.append(names[np.searchsorted(ends, rows, side="right")])
    known = trained.classifiers
    return Problem(
        np.concatenate(vectors),
        np.concatenate(labels),
        np.concatenate(images),
        partial(_fit, spec.svm, known),
    )


def _fit(
    how: Svm,
    known: Classifiers,
    vectors: Float[np.ndarray, "rows dim"],
    labels: Int8[np.ndarray, " rows"],
) -> Classifiers:
    """Fit some rows as the last round did; with the solver that is quicker, to the same end."""
    (fit,) = svm.fit_svms(
        vectors, labels[:, None], how.C, how.positive_weight, how.bias, how.tolerance, known.scale,
        "dense",
    )  # fmt: skip
    weights = fit.svm.weights.astype(np.float32)[None]
    intercepts = np.array([fit.svm.intercept], np.float32)
    return Classifiers(known.classes, weights, intercepts, known.scale)


def _each(
    label: str, function: Callable[[Any], Any], items: Mapping[str, Any], result: Any
) -> dict[str, Any]:
    """Run a part of a training here, on as many threads as there are CPUs."""
    del label, result
    with ThreadPoolExecutor(machine.cpus(), thread_name_prefix="teach") as pool:
        return dict(zip(items, pool.map(function, items.values()), strict=True))
