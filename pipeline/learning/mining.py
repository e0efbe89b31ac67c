"""Hard-negative mining: one pass over the shards scores every class (SPEC §6).

Each shard has a cache file: the vectors that some class trains on, and which classes those are.
`start_shard` makes the first caches, `mine_shard` a round's caches from the previous ones, and
`fit_class` reads one class out of all of them. Nothing else is shared: a pass runs shard by shard,
anywhere. Its memory is one row group and the shard's new cache rows.

Reading a shard costs more than scoring twenty classes, hence one pass for all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from safetensors.numpy import load_file, save

from pipeline.boxes import as_boxes
from pipeline.config import Mining, Svm
from pipeline.errors import InputError
from pipeline.learning import sampling
from pipeline.learning.cache import Rows, class_rows, members, write_cache
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.svm import NODE, fit_svm
from pipeline.store.files import written_aside
from pipeline.store.reader import Store, scan_shard
from pipeline.store.schema import BOX_COLUMNS, GROUND_TRUTH, box_array, image_slices, vectors

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
    """What every task of training and mining needs to know."""

    store: Store
    classes: tuple[str, ...]
    svm: Svm
    mining: Mining
    seed: int

    @property
    def share_of_negatives(self) -> float:
        """Chance of a window to be an initial negative: uniform over all images."""
        images = sum(len(record.images) for record in self.store.records)
        return min(1.0, self.svm.negatives * images / max(len(self.store), 1))

    @property
    def share_of_norms(self) -> float:
        """Chance of a window to count towards the mean norm."""
        return min(1.0, self.svm.norm_sample / max(len(self.store), 1))


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


@dataclass(frozen=True)
class FitStats:
    """What `fit_class` did."""

    positives: int
    negatives: int
    objective: float


def start_shard(spec: MiningSpec, shard_id: str, caches: Path) -> StartStats:
    """Cache a shard's positives, and its part of the seeded sample of initial negatives."""
    positives, negatives = np.zeros((2, len(spec.classes)), dtype=np.int64)
    norms: list[float] = []
    # Asked once: each answer goes through the records of all shards.
    share_of_negatives, share_of_norms = spec.share_of_negatives, spec.share_of_norms

    def parts() -> Iterator[Rows]:
        nonlocal positives, negatives
        for first, labelled, held in _images(spec, shard_id):
            drawn = sampling.drawn(labelled, share_of_negatives, spec.seed, NEGATIVES)
            spread = sampling.spread(labelled, spec.svm.duplicate_iou, spec.seed)
            negative = spread & drawn[:, None]
            positives += labelled.positive.sum(axis=0)
            negatives += negative.sum(axis=0)
            measured = sampling.drawn(labelled, share_of_norms, spec.seed, NORMS)
            norms.extend(np.linalg.norm(held[measured].astype(np.float64), axis=1).tolist())
            yield _rows(first, labelled.positive, negative, held)

    write_cache(caches, shard_id, spec.store.spec, len(spec.classes), parts())
    return StartStats(positives.tolist(), negatives.tolist(), float(sum(norms)), len(norms))


def mine_shard(
    spec: MiningSpec, shard_id: str, before: Path, after: Path, classifiers: Classifiers
) -> MineStats:
    """Evict a shard's easy negatives, and add the hard ones that no class cache holds yet."""
    classes = len(spec.classes)
    gained, evicted, negatives = np.zeros((3, classes), dtype=np.int64)
    rows = next(r.rows for r in spec.store.records if r.shard_id == shard_id)
    _, cached = members(before, shard_id, rows, classes)

    def parts() -> Iterator[Rows]:
        nonlocal gained, evicted, negatives
        for first, labelled, held in _images(spec, shard_id):
            held_before = cached[first : first + len(held)]
            scores = classifiers.score(held)
            easy = held_before & evict_easy(scores, spec.mining.easy_score)
            new = _hard(spec, labelled, scores, held_before, held_before & ~easy)
            negative = (held_before & ~easy) | new
            gained += new.sum(axis=0)
            evicted += easy.sum(axis=0)
            negatives += negative.sum(axis=0)
            yield _rows(first, labelled.positive, negative, held)

    write_cache(after, shard_id, spec.store.spec, classes, parts())
    return MineStats(gained.tolist(), evicted.tolist(), negatives.tolist())


def fit_class(spec: MiningSpec, k: int, caches: Path, scale: float, folder: Path) -> FitStats:
    """Train class `k` on its cached rows and write its weights into `folder`.

    Raises:
        InputError: the class has no positive or no negative, or needs more memory than allowed.
    """
    shard_ids = [record.shard_id for record in spec.store.records]
    parts = list(class_rows(caches, shard_ids, len(spec.classes), k))
    labels = np.concatenate([np.zeros(0, bool), *(positive for _, positive in parts)])
    count, positives = len(labels), int(labels.sum())
    name = spec.classes[k]
    if positives in (0, count):
        raise InputError(
            f'class "{name}" has {positives} positive and {count - positives} negative windows to '
            "learn from: label some, or take it out of dataset.classes"
        )
    X = np.concatenate([held for held, _ in parts])
    parts.clear()
    needed = int(np.count_nonzero(X)) * NODE.itemsize + X.nbytes
    if needed > spec.svm.memory_bytes:
        raise InputError(
            f'class "{name}" needs {needed:,} bytes for {count:,} windows, more than '
            f"svm.memory_bytes = {spec.svm.memory_bytes:,}: raise it, or lower "
            "svm.negatives or mining.max_per_image"
        )
    settings = spec.svm
    fitted = fit_svm(
        X, labels, settings.C, settings.positive_weight, settings.bias, settings.tolerance, scale
    )
    weights = np.append(fitted.weights, fitted.intercept)
    with written_aside(folder / f"{k}.safetensors") as aside:
        aside.write_bytes(save({"weights": weights}))
    return FitStats(positives, count - positives, fitted.objective)


def assemble(
    spec: MiningSpec, scale: float, folders: Sequence[Path], stats: Sequence[FitStats]
) -> Classifiers:
    """Return the classifiers whose weights `fit_class` wrote, class `k`'s into `folders[k]`."""
    fitted = [load_file(folder / f"{k}.safetensors")["weights"] for k, folder in enumerate(folders)]
    both = np.stack(fitted).astype(np.float32)
    return Classifiers(
        classes=spec.classes,
        weights=np.ascontiguousarray(both[:, :-1]),
        intercepts=np.ascontiguousarray(both[:, -1]),
        scale=scale,
        made_from=spec.store.made_from,
        training={
            "svm": spec.svm.model_dump(mode="json"),
            "classes": [asdict(each) for each in stats],
        },
    )


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


def _images(
    spec: MiningSpec, shard_id: str
) -> Iterator[tuple[int, sampling.Labelled, Float[np.ndarray, "windows dim"]]]:
    """Yield each image of a shard: its first row, its labelled windows, and their vectors."""
    objects = _objects(spec)
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    first = 0
    columns = ["image_id", *BOX_COLUMNS, "source", "vector"]
    for table in scan_shard(spec.store, shard_id, columns):
        held, boxes = vectors(table), box_array(table)
        truth = np.asarray(table["source"].cast("string").to_pylist()) == GROUND_TRUTH
        for image_id, part in image_slices(table):
            labelled = sampling.label(
                image_id,
                boxes[part],
                truth[part],
                *objects.get(image_id, nothing),
                len(spec.classes),
                spec.svm.negative_iou,
            )
            yield first + part.start, labelled, held[part]
        first += len(table)


def _objects(
    spec: MiningSpec,
) -> dict[str, tuple[np.ndarray, Int[np.ndarray, " objects"], Bool[np.ndarray, " objects"]]]:
    """Per image: boxes, class indices, and which objects may be positives."""
    places = {name: k for k, name in enumerate(spec.classes)}
    grouped: dict[str, list[dict]] = {}
    for row in spec.store.objects.to_pylist():
        if row["class"] in places:
            grouped.setdefault(row["image_id"], []).append(row)
    return {
        image_id: (
            as_boxes([[row[name] for name in BOX_COLUMNS] for row in rows]),
            np.array([places[row["class"]] for row in rows]),
            np.array([spec.svm.difficult_positives or not row["difficult"] for row in rows]),
        )
        for image_id, rows in grouped.items()
    }


def _hard(
    spec: MiningSpec,
    labelled: sampling.Labelled,
    scores: Float[np.ndarray, "windows classes"],
    cached: Bool[np.ndarray, "windows classes"],
    kept: Bool[np.ndarray, "windows classes"],
) -> Bool[np.ndarray, "windows classes"]:
    """Return the new hard negatives of an image, after the 70% rule against those kept, capped."""
    by_score = spec.mining.kept_first == "score"
    candidates = select_hard(scores, spec.mining.hard_score) & labelled.negative & ~cached
    if not by_score and candidates.any():
        candidates &= sampling.spread(labelled, spec.svm.duplicate_iou, spec.seed)
    new = np.zeros_like(candidates)
    for k in np.flatnonzero(candidates.any(axis=0)):
        chosen = sampling.best_first(
            candidates[:, k],
            scores[:, k],
            labelled.boxes,
            kept[:, k],
            spec.svm.duplicate_iou if by_score else None,
            spec.mining.max_per_image,
        )
        new[chosen, k] = True
    return new


def _rows(
    first: int,
    positive: Bool[np.ndarray, "windows classes"],
    negative: Bool[np.ndarray, "windows classes"],
    held: Float[np.ndarray, "windows dim"],
) -> Rows:
    used = np.flatnonzero((positive | negative).any(axis=1))
    return (first + used).astype(np.int32), positive[used], negative[used], held[used]
