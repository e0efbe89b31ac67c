"""The windows whose vectors are nearest to given ones: every vector is read, once for all queries.

A row's score does not depend on the rows beside it, and rows of equal score stand in their order;
so the answer is the same for any number of threads, and of queries that go together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64

from pipeline import machine
from pipeline.errors import InputError
from pipeline.store.blocks import Block, Query, cosines
from pipeline.store.place import REQUESTS
from pipeline.store.rows import Vectors
from pipeline.threads import share

Metric = Literal["cosine", "dot"]
PIECE_BYTES = 1 << 26  # of vectors that a thread takes at a time: two row groups
NEAR_BYTES = 1 << 20  # stays in a core's cache while several queries are held against it


@dataclass(frozen=True)
class Found:
    """Rows of a store, best first; those of equal score by their number."""

    rows: Int64[np.ndarray, " found"]
    scores: Float64[np.ndarray, " found"]

    def __len__(self) -> int:
        return len(self.rows)


class Best:
    """The best rows so far, at most `bound`. They must be added in the order of their numbers."""

    def __init__(self, bound: int) -> None:
        self._bound, self._held = bound, 0
        self._parts: list[Found] = []
        self._threshold = -np.inf

    def add(self, rows: Int[np.ndarray, " rows"], scores: Float64[np.ndarray, " rows"]) -> None:
        """Add those that are better than the last of as many as there may be."""
        # Not ">=": of two equal ones the earlier stays.
        better = np.flatnonzero(scores > self._threshold)
        if not len(better):
            return
        self._parts.append(Found(rows[better].astype(np.int64), scores[better]))
        self._held += len(better)
        # Sorted only when there are twice as many: most blocks add a few.
        if self._held >= 2 * self._bound:
            self._parts = [self.found()]
            self._held = self._bound
            self._threshold = float(self._parts[0].scores[-1])

    def found(self) -> Found:
        """Return them."""
        return best_of(self._parts, self._bound)


def best_of(parts: Sequence[Found], bound: int) -> Found:
    """Return the best of several, at most `bound`."""
    rows = np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)])
    scores = np.concatenate([np.zeros(0), *(part.scores for part in parts)])
    order = np.lexsort((rows, -scores))[:bound]
    return Found(rows[order], scores[order])


def nearest(
    vectors: Vectors,
    queries: Sequence[Query],
    count: int,
    metric: Metric = "cosine",
    among: Bool[np.ndarray, " rows"] | None = None,
    threads: int | None = None,
) -> list[Found]:
    """Return the nearest rows of each query, in one pass over the store.

    Args:
        vectors: of the store.
        queries: each is held against every row.
        count: how many rows to return; fewer where the store has fewer.
        metric: cosine, which is 0 where a vector is all zeros, or the product as it is.
        among: only these rows; None: all. Others are not read.
        threads: None: as many as there are CPUs, or requests at a time.

    Raises:
        InputError: a query has another length, or a shard is damaged.
    """
    if count < 1:
        raise InputError(f"the nearest {count} windows are none: ask for 1 or more")

    def work(pieces: Iterator[slice]) -> list[Found]:
        best = [Best(count) for _ in queries]
        for piece in pieces:
            rows = _chosen(piece, among)
            for places, block in vectors.parts(rows):
                _hold(block, rows[places], queries, metric, best)
        return [each.found() for each in best]

    at_once = threads or (REQUESTS if vectors.far else machine.cpus())
    made = share(pieces(vectors), work, at_once)
    return [best_of(parts, count) for parts in zip(*made, strict=True)]


def pieces(vectors: Vectors) -> Iterator[slice]:
    """Yield the rows that are read at a time: of one shard each, in order."""
    # Whole shards over a network: a row group that two pieces share would be asked for twice.
    most = len(vectors) if vectors.far else max(PIECE_BYTES // vectors.spec.row_bytes, 1)
    for first, past in zip(vectors.first[:-1].tolist(), vectors.first[1:].tolist(), strict=True):
        for start in range(first, past, most):
            yield slice(start, min(start + most, past))


def _chosen(piece: slice, among: Bool[np.ndarray, " rows"] | None) -> Int64[np.ndarray, " chosen"]:
    if among is None:
        return np.arange(piece.start, piece.stop)
    return piece.start + np.flatnonzero(among[piece])


def _hold(
    block: Block,
    rows: Int[np.ndarray, " rows"],
    queries: Sequence[Query],
    metric: Metric,
    best: Sequence[Best],
) -> None:
    """Hold vectors against every query."""
    few = max(NEAR_BYTES // block.spec.row_bytes, 4)
    step = len(block) if len(queries) == 1 else few
    for start in range(0, len(block), max(step, 1)):
        part = Block(block.buffer, block.starts[start : start + step], block.spec)
        for query, held in zip(queries, best, strict=True):
            held.add(rows[start : start + step], score(*part.measure(query), query, metric))


def score(
    products: Float32[np.ndarray, " rows"],
    squares: Float32[np.ndarray, " rows"],
    query: Query,
    metric: Metric,
) -> Float64[np.ndarray, " rows"]:
    """Return what rows are ranked by, from what `Vectors.measure` returns."""
    if metric == "dot":
        return products.astype(np.float64)
    return cosines(products, squares, query)


def settle(
    vectors: Vectors, rows: Int[np.ndarray, " rows"], query: Query, count: int, metric: Metric
) -> Found:
    """Return the best of some rows, scored as `nearest` scores them."""
    found: Float[np.ndarray, " rows"] = score(*vectors.measure(rows, query), query, metric)
    return best_of([Found(rows.astype(np.int64), found)], count)
