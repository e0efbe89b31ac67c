"""Fitting classes on cached rows: those that fit into memory together share one problem.

Which classes are fitted together changes the time, never a result: each is solved on its own rows,
in the order of shards and rows, whenever and in whatever pass they were cached.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int8

from pipeline.errors import InputError
from pipeline.learning import svm
from pipeline.learning.cache import read_members, read_vectors
from pipeline.learning.fits import FitStats, read_duals, row_keys, write_fit
from pipeline.learning.mining import MiningSpec

ROW_BYTES = 20  # of a cached row, used or not: what `_Cached` holds beside its labels
LABEL_BYTES, DUAL_BYTES = 1, 16  # of a row and class: the dual that came, and the one that goes


@dataclass(frozen=True)
class GroupStats:
    """What `fit_classes` did, class by class."""

    positives: list[int]
    negatives: list[int]
    objective: list[float]

    @property
    def fits(self) -> list[FitStats]:
        """The same, one by one."""
        rows = zip(self.positives, self.negatives, self.objective, strict=True)
        return [FitStats(*row) for row in rows]


@dataclass(frozen=True)
class _Cached:
    """All cached rows, shard after shard."""

    shard_ids: list[str]
    shard: Int[np.ndarray, " rows"]
    row: Int[np.ndarray, " rows"]
    part: Int[np.ndarray, " rows"]
    nonzeros: Int[np.ndarray, " rows"]
    labels: Int8[np.ndarray, "rows classes"]
    """1, -1, and 0 where the class does not learn from the row; of the task's classes only."""


def fit_classes(
    spec: MiningSpec,
    classes: Sequence[int],
    caches: Sequence[Path],
    scale: float,
    folder: Path,
    before: Mapping[int, Path] | None = None,
) -> GroupStats:
    """Train some classes on their cached rows and write the weights of each into `folder`.

    Args:
        spec: of the training.
        classes: indices into `spec.classes`.
        caches: folders of the passes, oldest first; the last one says who learns from what.
        scale: multiplies the vectors.
        folder: takes `<class>.safetensors`.
        before: folders of the classes' last fits, from which a solver that can goes on.

    Raises:
        InputError: a class has no positive or no negative, or needs more memory than allowed.
    """
    cached, how = _cached(spec, classes, caches), spec.svm
    for column, k in enumerate(classes):
        _require_both(spec, k, cached.labels[:, column])
    stats: dict[int, FitStats] = {}
    for columns in memory_groups(spec, classes, cached.labels, cached.nonzeros):
        group = [classes[column] for column in columns]
        rows = np.flatnonzero(cached.labels[:, columns].any(axis=1))
        X = _load(spec, caches, cached, rows)
        Y = np.ascontiguousarray(cached.labels[rows[:, None], columns])
        start = _duals(cached, rows, group, before or {}) if how.solver == "dense" else None
        fits = svm.fit_svms(
            X, Y, how.C, how.positive_weight, how.bias, how.tolerance, scale, how.solver, start
        )
        for column, (k, fit) in enumerate(zip(group, fits, strict=True)):
            write_fit(folder, k, fit, cached.shard[rows], cached.row[rows])
            positives, negatives = (int((Y[:, column] == sign).sum()) for sign in (1, -1))
            stats[k] = FitStats(positives, negatives, fit.svm.objective)
    done = [stats[k] for k in classes]
    return GroupStats(
        [each.positives for each in done],
        [each.negatives for each in done],
        [each.objective for each in done],
    )


def memory_groups(
    spec: MiningSpec,
    classes: Sequence[int],
    labels: Int8[np.ndarray, "rows classes"],
    nonzeros: Int[np.ndarray, " rows"],
) -> Iterator[list[int]]:
    """Split classes into groups that are each fitted within `svm.memory_bytes`, known beforehand.

    Args:
        spec: of the training.
        classes: indices into `spec.classes`.
        labels: of all cached rows, a column for each of `classes`.
        nonzeros: numbers of each row's vector that are not zero.

    Yields:
        Columns of `labels`.

    Raises:
        InputError: a class does not fit even alone.
    """
    group: list[int] = []
    used = np.zeros(len(labels), dtype=bool)
    for column, k in enumerate(classes):
        own = labels[:, column] != 0
        needed = _needed_bytes(spec, own, nonzeros, 1, len(classes))
        if needed > spec.svm.memory_bytes:
            raise InputError(
                f'class "{spec.classes[k]}" needs {needed:,} bytes for '
                f"{np.count_nonzero(own):,} windows, more than svm.memory_bytes = "
                f"{spec.svm.memory_bytes:,}: raise it, or lower svm.negatives or "
                "mining.max_per_image"
            )
        both = used | own
        together = _needed_bytes(spec, both, nonzeros, len(group) + 1, len(classes))
        if together > spec.svm.memory_bytes:
            yield group
            group, both = [], own
        group.append(column)
        used = both
    if group:
        yield group


def shares(classes: Sequence[int], workers: int) -> list[list[int]]:
    """Split classes among at most `workers`, as evenly as they go.

    >>> shares([0, 1, 2, 5, 6], 2)
    [[0, 1, 2], [5, 6]]
    """
    parts = np.array_split(np.asarray(classes, dtype=int), max(1, min(workers, len(classes))))
    return [part.tolist() for part in parts if len(part)]


def _cached(spec: MiningSpec, classes: Sequence[int], caches: Sequence[Path]) -> _Cached:
    """Read who learns from what; of the labels, only those of `classes` are kept."""
    shard_ids = [entry.shard_id for entry in spec.store.shards]
    empty = np.zeros(0, np.int32)
    row, part, nonzeros, labels = [empty], [empty], [empty], [np.zeros((0, len(classes)), np.int8)]
    for shard_id in shard_ids:
        members = read_members(caches[-1], shard_id, len(spec.classes))
        positive, negative = members.positive[:, classes], members.negative[:, classes]
        row.append(members.row)
        part.append(members.part)
        nonzeros.append(members.nonzeros)
        labels.append(positive.astype(np.int8) - (negative & ~positive))
    shard = np.repeat(np.arange(len(shard_ids)), [len(rows) for rows in row[1:]])
    return _Cached(shard_ids, shard, *map(np.concatenate, (row, part, nonzeros, labels)))


def _load(
    spec: MiningSpec, caches: Sequence[Path], cached: _Cached, rows: Int[np.ndarray, " chosen"]
) -> Float[np.ndarray, "chosen dim"]:
    """Return the vectors of the chosen rows, in order, each read once."""
    vector = spec.store.spec
    X = np.empty((len(rows), vector.length), vector.dtype)
    ends = np.searchsorted(cached.shard[rows], np.arange(len(cached.shard_ids) + 1))
    for number, shard_id in enumerate(cached.shard_ids):
        span = slice(ends[number], ends[number + 1])
        own = rows[span]
        read_vectors(caches, shard_id, cached.row[own], cached.part[own], X[span])
    return X


def _needed_bytes(
    spec: MiningSpec,
    used: Bool[np.ndarray, " rows"],
    nonzeros: Int[np.ndarray, " rows"],
    together: int,
    of: int,
) -> int:
    """Memory that fitting some classes together takes, their vectors as stored.

    Args:
        spec: of the training.
        used: which of all cached rows some of them learns from.
        nonzeros: numbers of each row's vector that are not zero.
        together: how many classes.
        of: how many have their labels loaded.
    """
    rows, numbers = int(used.sum()), int(nonzeros[used].sum(dtype=np.int64))
    vector = spec.store.spec
    known = len(used) * (ROW_BYTES + of * LABEL_BYTES)
    solving = svm.needed_bytes(rows, numbers, vector.length, spec.svm.solver, together)
    return known + rows * (vector.row_bytes + together * (LABEL_BYTES + DUAL_BYTES)) + solving


def _require_both(spec: MiningSpec, k: int, labels: Int8[np.ndarray, " rows"]) -> None:
    positives, negatives = int((labels > 0).sum()), int((labels < 0).sum())
    if not positives or not negatives:
        raise InputError(
            f'class "{spec.classes[k]}" has {positives} positive and {negatives} negative windows '
            "to learn from: label some, or take it out of dataset.classes"
        )


def _duals(
    cached: _Cached,
    rows: Int[np.ndarray, " rows"],
    group: Sequence[int],
    before: Mapping[int, Path],
) -> Float64[np.ndarray, "rows classes"] | None:
    """Return the duals of the last fits at the rows of this one; None where there is no last."""
    keys = row_keys(cached.shard[rows], cached.row[rows])
    starts = [read_duals(before[k], k, keys) if k in before else None for k in group]
    known = [start for start in starts if start is not None]
    if len(known) < len(group):
        return None
    return np.stack(known, axis=1)
