"""The rounds of a training: sample, fit, and then mine and refit until nothing is left to do.

What happens and in which order is here; where it runs is the caller's: `each` runs a function of
this library over keyed items, in this process or on a cluster, and remembers what is done.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.learning import classifiers as saved
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.fits import FitStats, assemble
from pipeline.learning.fitting import GroupStats, fit_classes, shares
from pipeline.learning.mining import (
    MineStats,
    MiningSpec,
    StartStats,
    mine_shard,
    require_positives,
    start_shard,
)

CACHES, FITS = "caches", "fits"


# Runs a function over keyed items and gives the results by key: (label, function, items, type of
# a result). `jobs.context.Context.map` is one.
Each = Callable[[str, Callable[[Any], Any], Mapping[str, Any], Any], dict[str, Any]]


@dataclass(frozen=True)
class Trained:
    """Where a training stands."""

    classifiers: Classifiers
    caches: tuple[Path, ...]
    """Folders of the passes, oldest first."""
    fits: tuple[Path, ...]
    """By class: the folder of its last fit."""
    stats: tuple[FitStats, ...]
    """By class: of its last fit."""


@dataclass(frozen=True)
class Round:
    """What a round of mining did, over all shards and classes."""

    gained: int
    evicted: int
    refitted: int
    """Classes."""


def start(spec: MiningSpec, each: Each, folder: Path, workers: int) -> tuple[Trained, int]:
    """Cache positives and a sample of negatives, and fit every class for the first time.

    Args:
        spec: of the training.
        each: runs the parts.
        folder: takes caches and fits.
        workers: fits that may run at a time.

    Returns:
        The training, and how many positives there are.

    Raises:
        InputError: a class has no positive window.
    """
    caches = folder / CACHES
    sample = partial(start_shard, spec, caches=caches)
    started: list[StartStats] = list(each("sample", sample, _shards(spec), StartStats).values())
    positives = _sums(stats.positives for stats in started)
    require_positives(spec, positives)
    norm, count = (sum(getattr(s, name) for s in started) for name in ("norm_sum", "norm_count"))
    scale = spec.svm.target_norm * count / norm if norm else 1.0
    every = range(len(spec.classes))
    fits = _fit(spec, each, "fit", every, [caches], scale, folder / FITS / "fit", {}, workers)
    return _first(spec, folder, scale, [fits[k] for k in every]), sum(positives)


def resume(spec: MiningSpec, folder: Path) -> Trained:
    """Return the training that `start` left in `folder`, once its classifiers were saved there."""
    known = saved.load(folder)
    stats = [FitStats(**one) for one in known.training["classes"]]
    return _first(spec, folder, known.scale, stats)


def mine(
    spec: MiningSpec, trained: Trained, each: Each, folder: Path, workers: int
) -> tuple[Trained, list[Round]]:
    """Run the rounds that `spec.mining` asks for.

    Args:
        spec: of the training.
        trained: where it stands.
        each: runs the parts.
        folder: takes caches and fits of the rounds.
        workers: fits that may run at a time.
    """
    history: list[Round] = []
    settings = spec.mining
    limit = settings.max_rounds if settings.rounds == "converged" else settings.rounds
    for number in range(1, limit + 1):
        trained, done = _round(spec, trained, each, folder, f"round-{number:02d}", workers)
        history.append(done)
        if not done.gained:
            break
    return trained, history


def _round(
    spec: MiningSpec, trained: Trained, each: Each, folder: Path, label: str, workers: int
) -> tuple[Trained, Round]:
    """Mine every shard, and refit the classes that gained something."""
    known, caches = trained.classifiers, (*trained.caches, folder / CACHES / label)
    pass_ = partial(mine_shard, spec, caches=caches, classifiers=known)
    mined: list[MineStats] = list(each(label, pass_, _shards(spec), MineStats).values())
    gained, evicted = (_sums(getattr(m, name) for m in mined) for name in ("gained", "evicted"))
    # A class that gained nothing has its optimum: what was evicted had no part in it.
    changed = [k for k, new in enumerate(gained) if new]
    fits, stats, to = list(trained.fits), list(trained.stats), folder / FITS / f"{label}-fit"
    before = {k: fits[k] for k in changed}
    fitted = _fit(spec, each, f"{label}-fit", changed, caches, known.scale, to, before, workers)
    for k, done in fitted.items():
        stats[k], fits[k] = done, to
    known = assemble(spec, known.scale, fits, stats)
    after = Trained(known, caches, tuple(fits), tuple(stats))
    return after, Round(sum(gained), sum(evicted), len(changed))


def _fit(
    spec: MiningSpec,
    each: Each,
    label: str,
    classes: Sequence[int],
    caches: Sequence[Path],
    scale: float,
    folder: Path,
    before: Mapping[int, Path],
    workers: int,
) -> dict[int, FitStats]:
    """Fit classes, shared among the workers; another number of them gives the same weights."""
    groups = {f"{group[0]}-{group[-1]}": group for group in shares(classes, workers)}
    fit = partial(
        fit_classes, spec, caches=tuple(caches), scale=scale, folder=folder, before=before
    )
    done: dict[str, GroupStats] = each(label, fit, groups, GroupStats)
    return {
        k: stats
        for name, group in groups.items()
        for k, stats in zip(group, done[name].fits, strict=True)
    }


def _first(spec: MiningSpec, folder: Path, scale: float, stats: Sequence[FitStats]) -> Trained:
    fits = (folder / FITS / "fit",) * len(spec.classes)
    known = assemble(spec, scale, fits, stats)
    return Trained(known, (folder / CACHES,), fits, tuple(stats))


def _shards(spec: MiningSpec) -> dict[str, str]:
    return {entry.shard_id: entry.shard_id for entry in spec.store.shards}


def _sums(rows: Any) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]
