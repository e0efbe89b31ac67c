"""Fitting classes on cached rows: those that fit into memory together share one problem.

Which classes are fitted together changes the time, never a result: each is solved on its own rows,
in the order of shards and rows, whenever and in whatever pass they were cached.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int, Int8

from pipeline.errors import InputError
from pipeline.learning import svm
from pipeline.learning.cache import Members, read_members, read_vectors
from pipeline.learning.fits import FitStats, read_duals, row_keys, write_fit
from pipeline.learning.mining import MiningSpec

LABEL_BYTES, DUAL_BYTES = 1, 16  # of a row and class: the dual that came, and the one that goes


@dataclass(frozen=True)
class GroupStats:
    """What `fit_classes` did, class by class."""

    positives: list[int]
    negatives: list[int]
    objective: list[float]

    @property
    def each(self) -> list[FitStats]:
        """The same, one by one."""
        rows = zip(self.positives, self.negatives, self.objective, strict=True)
        return [FitStats(*row) for row in rows]


@dataclass(frozen=True)
class _Cached:
    """All cached rows, shard after shard."""

    shard_ids: list[str]
    members: list[Members]
    shard: Int[np.ndarray, " rows"]
    row: Int[np.ndarray, " rows"]
    nonzeros: Int[np.ndarray, " rows"]
    labels: Int8[np.ndarray, "rows classes"]
    """1, -1, and 0 where the class does not learn from the row."""


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
    cached = _cached(spec, caches)
    for k in classes:
        _require_both(spec, k, cached.labels[:, k])
    stats: dict[int, FitStats] = {}
    for group in memory_groups(spec, classes, cached.labels, cached.nonzeros):
        rows = np.flatnonzero(cached.labels[:, group].any(axis=1))
        X = _load(spec, caches, cached, rows)
        Y = np.ascontiguousarray(cached.labels[rows][:, group])
        start = _duals(cached, rows, group, before or {}) if spec.svm.solver == "dense" else None
        how = spec.svm
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
    labels: Int8[np.ndarray, "rows all_classes"],
    nonzeros: Int[np.ndarray, " rows"],
) -> Iterator[list[int]]:
    """Split classes into groups that are each fitted within `svm.memory_bytes`, known beforehand.

    Raises:
        InputError: a class does not fit even alone.
    """
    group: list[int] = []
    for k in classes:
        if group and _needed_bytes(spec, [*group, k], labels, nonzeros) > spec.svm.memory_bytes:
            yield group
            group = []
        group.append(k)
        needed = _needed_bytes(spec, [k], labels, nonzeros)
        if needed > spec.svm.memory_bytes:
            raise InputError(
                f'class "{spec.classes[k]}" needs {needed:,} bytes for '
                f"{np.count_nonzero(labels[:, k]):,} windows, more than svm.memory_bytes = "
                f"{spec.svm.memory_bytes:,}: raise it, or lower svm.negatives or "
                "mining.max_per_image"
            )
    if group:
        yield group


def shares(classes: Sequence[int], workers: int) -> list[list[int]]:
    """Split classes among at most `workers`, as evenly as they go.

    >>> shares([0, 1, 2, 5, 6], 2)
    [[0, 1, 2], [5, 6]]
    """
    parts = np.array_split(np.asarray(classes, dtype=int), max(1, min(workers, len(classes))))
    return [part.tolist() for part in parts if len(part)]


def _cached(spec: MiningSpec, caches: Sequence[Path]) -> _Cached:
    shard_ids = [record.shard_id for record in spec.store.records]
    count = len(spec.classes)
    members = [read_members(caches[-1], shard_id, count) for shard_id in shard_ids]
    signs = [each.positive.astype(np.int8) - (each.negative & ~each.positive) for each in members]
    return _Cached(
        shard_ids,
        members,
        np.repeat(np.arange(len(members)), [len(each.row) for each in members]),
        np.concatenate([np.zeros(0, np.int32), *(each.row for each in members)]),
        np.concatenate([np.zeros(0, np.int32), *(each.nonzeros for each in members)]),
        np.concatenate([np.zeros((0, count), np.int8), *signs]),
    )


def _load(
    spec: MiningSpec, caches: Sequence[Path], cached: _Cached, rows: Int[np.ndarray, " chosen"]
) -> Float[np.ndarray, "chosen dim"]:
    """Return the vectors of the chosen rows, in order, each read once."""
    vector = spec.store.spec
    X = np.empty((len(rows), vector.length), vector.dtype)
    offsets = np.cumsum([0, *(len(each.row) for each in cached.members)])
    ends = np.searchsorted(rows, offsets)
    for number, (shard_id, held) in enumerate(zip(cached.shard_ids, cached.members, strict=True)):
        part = slice(ends[number], ends[number + 1])
        own = rows[part] - offsets[number]
        read_vectors(caches, shard_id, held.row[own], held.part[own], X[part])
    return X


def _needed_bytes(
    spec: MiningSpec,
    group: Sequence[int],
    labels: Int8[np.ndarray, "rows all_classes"],
    nonzeros: Int[np.ndarray, " rows"],
) -> int:
    """Memory that fitting these classes together takes: the vectors as stored, and the solver's."""
    used = labels[:, group].any(axis=1)
    rows, numbers = int(used.sum()), int(nonzeros[used].sum(dtype=np.int64))
    vector = spec.store.spec
    solving = svm.needed_bytes(rows, numbers, vector.length, spec.svm.solver, len(group))
    return rows * (vector.row_bytes + len(group) * (LABEL_BYTES + DUAL_BYTES)) + solving


def _require_both(spec: MiningSpec, k: int, labels: Int8[np.ndarray, " rows"]) -> None:
    positives, negatives = int((labels > 0).sum()), int((labels < 0).sum())
    if not positives or not negatives:
        raise InputError(
            f'class "{spec.classes[k]}" has {positives} positive and {negatives} negative windows '
            "to learn from: label some, or take it out of dataset.classes"
        )


def _duals(
    cached: _Cached, rows: np.ndarray, group: Sequence[int], before: Mapping[int, Path]
) -> Float64[np.ndarray, "rows classes"] | None:
    """Return the duals of the last fits at the rows of this one; None where there is no last."""
    keys = row_keys(cached.shard[rows], cached.row[rows])
    starts = [read_duals(before[k], k, keys) if k in before else None for k in group]
    known = [start for start in starts if start is not None]
    if len(known) < len(group):
        return None
    # Where a class has evicted a row that others hold, its dual has gone.
    return np.stack(known, axis=1) * (cached.labels[rows][:, group] != 0)
