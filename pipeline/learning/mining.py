"""Hard-negative mining: one pass over the shards scores every class (SPEC §6).

Each shard has a cache: the vectors that some class trains on, and which classes those are (see
`cache`). `start_shard` begins it, `mine_shard` goes on with it: evicts, adds, and writes what is
new. Nothing else is shared: a pass runs shard by shard, anywhere. It holds one row group of the
shard, and flags of the shard's rows by class.

Reading a shard costs more than scoring twenty classes, hence one pass for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from pipeline.config import Mining, Svm
from pipeline.errors import InputError
from pipeline.learning import overlap, sampling
from pipeline.learning.cache import CacheWriter, read_members
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.labelling import Told, labelled_images
from pipeline.learning.sampling import by_class
from pipeline.store.reader import Store

NEGATIVES, NORMS = 1, 2  # purposes of the two samples


def select_hard(scores: ArrayLike, threshold: int | float = -1.0001) -> Bool[np.ndarray, "..."]:
    """Return which negatives are hard: scored strictly above the threshold.

    >>> select_hard([-1.2, -1.0001, -0.4]).tolist()
    [False, False, True]
    """
    return np.asarray(np.asarray(scores) > threshold)


def evict_easy(scores: ArrayLike, threshold: int | float = -1.2) -> Bool[np.ndarray, "..."]:
    """Return which cached negatives are easy: scored strictly below the threshold.

    >>> evict_easy([-1.3, -1.2, 0.0]).tolist()
    [True, False, False]
    """
    return np.asarray(np.asarray(scores) < threshold)


@dataclass(frozen=True)
class MiningSpec:
    """What every task of training and mining needs to know; small, whatever the store holds."""

    store: Store
    classes: tuple[str, ...]
    svm: Svm
    mining: Mining
    seed: int
    told: Told | None = None
    """What a person said of windows, where one class is taught by examples."""

    @property
    def share_of_negatives(self) -> float:
        """Chance of a window to be an initial negative: uniform over all images."""
        held = self.store.totals
        return min(1.0, self.svm.negatives * held.images / max(held.rows, 1))

    @property
    def share_of_norms(self) -> float:
        """Chance of a window to count towards the mean norm."""
        return min(1.0, self.svm.norm_sample / max(self.store.totals.rows, 1))


@dataclass(frozen=True)
class StartStats:
    """What `start_shard` found."""

    positives: list[int]
    negatives: list[int]
    norm_sum: float
    norm_count: int


@dataclass(frozen=True)
class MineStats:
    """What `mine_shard` did, per class."""

    gained: list[int]
    evicted: list[int]
    negatives: list[int]


def start_shard(spec: MiningSpec, shard_id: str, caches: Path) -> StartStats:
    """Cache a shard's positives, and its part of the seeded sample of initial negatives."""
    rows = spec.store.record(shard_id).rows
    positive, negative = np.zeros((2, rows, len(spec.classes)), dtype=bool)
    norms: list[float] = []
    with CacheWriter([caches], shard_id, spec.store.spec, rows) as writer:
        images = labelled_images(spec.store, shard_id, spec.classes, spec.svm, spec.told)
        for first, labelled, held in images:
            part = slice(first, first + len(held))
            drawn = sampling.drawn(labelled, spec.share_of_negatives, spec.seed, NEGATIVES)
            wanted = labelled.negative & drawn[:, None]
            spread = overlap.spread(labelled, spec.svm.duplicate_iou, spec.seed, wanted)
            negative[part] = spread | labelled.told
            positive[part] = labelled.positive
            measured = sampling.drawn(labelled, spec.share_of_norms, spec.seed, NORMS)
            norms.extend(np.linalg.norm(held[measured].take().astype(np.float64), axis=1).tolist())
            writer.add(first, positive[part] | negative[part], held)
        writer.commit(positive, negative)
    counts = [by_class(flags).tolist() for flags in (positive, negative)]
    return StartStats(counts[0], counts[1], float(sum(norms)), len(norms))


def mine_shard(
    spec: MiningSpec, shard_id: str, caches: Sequence[Path], classifiers: Classifiers
) -> MineStats:
    """Evict a shard's easy negatives, and add the hard ones that no class cache holds yet.

    Args:
        spec: of the training.
        shard_id: which shard.
        caches: folders of the passes so far, and last the one that this pass writes.
        classifiers: of the last refit.
    """
    classes, rows = len(spec.classes), spec.store.record(shard_id).rows
    members = read_members(caches[-2], shard_id, classes)
    positive, negative = np.zeros((2, rows, classes), dtype=bool)
    negative[members.row] = members.negative
    before = negative.copy()
    score = classifiers.scorer()
    with CacheWriter(caches, shard_id, spec.store.spec, rows) as writer:
        writer.keep(members)
        images = labelled_images(spec.store, shard_id, spec.classes, spec.svm, spec.told)
        for first, labelled, held in images:
            part = slice(first, first + len(held))
            positive[part] = labelled.positive
            negative[part] = _mined(spec, labelled, score(held), before[part])
            writer.add(first, positive[part] | negative[part], held)
        writer.commit(positive, negative)
    gained, evicted = by_class(negative & ~before), by_class(before & ~negative)
    return MineStats(gained.tolist(), evicted.tolist(), by_class(negative).tolist())


def require_positives(spec: MiningSpec, positives: Sequence[int]) -> None:
    """Refuse classes without a positive window.

    Raises:
        InputError: names them.
    """
    empty = [name for name, count in zip(spec.classes, positives, strict=True) if not count]
    if empty:
        raise InputError(
            f"{len(empty)} of {len(spec.classes)} classes have no positive window in "
            f"{spec.store.root}: {', '.join(empty)}. Label some, or leave them out of "
            "dataset.classes"
        )


def _mined(
    spec: MiningSpec,
    labelled: sampling.Labelled,
    scores: Float[np.ndarray, "windows classes"],
    cached: Bool[np.ndarray, "windows classes"],
) -> Bool[np.ndarray, "windows classes"]:
    """Return an image's negatives after a round: without easy ones, with the hardest new ones."""
    by_score = spec.mining.kept_first == "score"
    kept = cached & ~evict_easy(scores, spec.mining.easy_score)
    candidates = select_hard(scores, spec.mining.hard_score) & labelled.negative & ~cached
    if not by_score:
        candidates = overlap.spread(labelled, spec.svm.duplicate_iou, spec.seed, candidates)
    duplicate_iou = spec.svm.duplicate_iou if by_score else None
    new = overlap.hardest(
        candidates, scores, labelled.boxes, kept, duplicate_iou, spec.mining.max_per_image
    )
    return kept | new | labelled.told
