"""One pass over a store with a new classifier: its best windows, and those it is least sure of."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from pipeline import machine
from pipeline.errors import InputError
from pipeline.learning.classifiers import Classifiers
from pipeline.search.nearest import Best, Found, best_of, pieces
from pipeline.search.regions import windows_of
from pipeline.search.similar import FOLDED_IOU, folded
from pipeline.store.blocks import Query, query
from pipeline.store.place import REQUESTS
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, box_array
from pipeline.threads import share

ROWS_PER_HIT = 64  # windows of one object, and of images that are marked, are left out of them
LEAST_ROWS = 4096


@dataclass(frozen=True)
class Hit:
    """A window and its score."""

    image_id: str
    window_id: int
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Ranking:
    """What a pass over the store has found, no window twice in one list."""

    windows: int
    """How many were scored."""
    above: int
    """How many of them scored above 0."""
    top: tuple[Hit, ...]
    """The best, best first."""
    borderline: tuple[Hit, ...]
    """Those whose score is nearest to 0, nearest first."""


def rank(store: Store, known: Classifiers, count: int, marked: Collection[str] = ()) -> Ranking:
    """Score every window of the store with the first class of a classifier.

    A window's score depends on its own vector alone, and not on threads (see `Vectors.measure`).

    Args:
        store: the store.
        known: the classifier.
        count: how many hits to return of each kind.
        marked: images to leave out, for a person has judged them.
    """
    vectors = Vectors(store)
    given, intercept = folded_in(known)
    # Beforehand: of a class that is marked in many images they would be all of the best.
    free = ~_rows_of(store, vectors, marked)
    bound = max(ROWS_PER_HIT * count, LEAST_ROWS)

    def work(turns: Iterator[slice]) -> tuple[Found, Found, int]:
        best, nearest, above = Best(bound), Best(bound), 0
        for piece in turns:
            rows = np.arange(piece.start, piece.stop)
            for places, block in vectors.parts(rows):
                scores = block.measure(given)[0].astype(np.float64) + intercept
                above += int(np.count_nonzero(scores > 0))
                inside = free[rows[places]]
                best.add(rows[places][inside], scores[inside])
                nearest.add(rows[places][inside], -np.abs(scores[inside]))
        return best.found(), nearest.found(), above

    made = share(pieces(vectors), work, REQUESTS if vectors.far else machine.cpus())
    best = best_of([each[0] for each in made], bound)
    nearest = best_of([each[1] for each in made], bound)
    top = _hits(vectors, best.rows, best.scores, count)
    unsure = scores_of(vectors, nearest.rows, known)
    others = _hits(vectors, nearest.rows, unsure, count, top)
    return Ranking(len(vectors), sum(each[2] for each in made), top, others)


def _rows_of(
    store: Store, vectors: Vectors, image_ids: Collection[str]
) -> Bool[np.ndarray, " rows"]:
    """Return which rows are windows of some images; no vector is read."""
    flags = np.zeros(len(vectors), bool)
    shards = {store.shard_of(image_id) for image_id in image_ids} - {None}
    for shard in sorted(each for each in shards if each is not None):
        first = int(vectors.first[shard])
        for table in scan_shard(store, store.shards[shard].shard_id, ["image_id"]):
            held = np.array(table["image_id"].to_pylist(), object)
            flags[first : first + len(held)] = np.isin(held, list(image_ids))
            first += len(held)
    return flags


def best_in(
    store: Store, vectors: Vectors, known: Classifiers, image_id: str, count: int
) -> tuple[Hit, ...]:
    """Return the best windows of one image, one for each object; no other image is read.

    Raises:
        InputError: the store has no windows of this image.
    """
    shard = store.shard_of(image_id)
    if shard is None:
        raise InputError(f"{store.root} has no windows of an image {image_id}")
    first, windows = windows_of(store, shard, image_id)
    rows = first + np.arange(len(windows))
    scores = scores_of(vectors, rows, known)
    order = np.argsort(-scores, kind="stable")
    return _hits(vectors, rows[order], scores[order], count)


def folded_in(known: Classifiers) -> tuple[Query, float]:
    """Return the first class's weights, with the scale in them, and its intercept."""
    return query(known.weights[0] * np.float32(known.scale)), float(known.intercepts[0])


def scores_of(
    vectors: Vectors, rows: Int64[np.ndarray, " rows"], known: Classifiers
) -> Float32[np.ndarray, " rows"]:
    """Return the scores of some rows, as `rank` gives them."""
    given, intercept = folded_in(known)
    return vectors.measure(rows, given)[0] + np.float32(intercept)


def _hits(
    vectors: Vectors,
    rows: Int64[np.ndarray, " found"],
    scores: Float[np.ndarray, " found"],
    count: int,
    before: Sequence[Hit] = (),
) -> tuple[Hit, ...]:
    """Return the first hits among rows that stand best first: one for each object.

    Args:
        vectors: of the store.
        rows: what was found.
        scores: of the rows.
        count: at most so many.
        before: hits of other lists, whose objects are left out.
    """
    windows = vectors.scalars(rows, ["image_id", "window_id", *BOX_COLUMNS])
    images, numbers = windows["image_id"].to_pylist(), windows["window_id"].to_pylist()
    boxes = [*(hit.box for hit in before), *map(tuple, box_array(windows).tolist())]
    names, skipped = [*(hit.image_id for hit in before), *images], len(before)
    chosen = np.array(boxes, np.float64).reshape(-1, 4)
    kept = folded(names, chosen, FOLDED_IOU)
    kept = kept[kept >= skipped][:count] - skipped
    return tuple(
        Hit(images[row], numbers[row], boxes[skipped + row], float(scores[row]))
        for row in kept.tolist()
    )
