"""The nearest rows are those that a sort of all rows in float64 gives."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.search.nearest import Best, Found, nearest
from pipeline.store import schema
from pipeline.store.blocks import query
from pipeline.store.rows import Vectors


def scanned(store):
    parts = [schema.vectors(table) for table in store.scan(["vector"])]
    return np.concatenate(parts).astype(np.float64)


def by_hand(rows, given, metric):
    """Scores of all rows, and their order."""
    scores = rows @ given.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(given)
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    return scores, np.lexsort((np.arange(len(rows)), -scores))


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_stores_of_each_kind_in_each_place(small, metric):
    given = np.random.default_rng(3).normal(size=50).astype(np.float32)
    (found,) = nearest(Vectors(small), [query(given)], 5, metric)
    scores, order = by_hand(scanned(small), given, metric)
    assert found.rows.tolist() == order[:5].tolist()
    assert np.allclose(found.scores, scores[order[:5]], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("rows", "dim", "count"), [(41, 19, 7), (97, 3, 11), (5, 64, 9), (1, 8, 1)]
)
def test_random_stores(vectors_store, rows, dim, count, dtype):
    held = vectors_store(np.random.default_rng(rows).normal(size=(rows, dim)).astype(dtype), dtype)
    given = np.random.default_rng(dim).normal(size=(3, dim)).astype(np.float32)
    for metric in ("cosine", "dot"):
        all_found = nearest(Vectors(held), [query(each) for each in given], count, metric)
        for each, found in zip(given, all_found, strict=True):
            scores, order = by_hand(scanned(held), each, metric)
            assert found.rows.tolist() == order[:count].tolist()
            assert np.allclose(found.scores, scores[order[:count]], atol=1e-5)


def test_equal_scores_stand_in_the_order_of_their_rows(vectors_store):
    # Rows 2, 5, 8, ... have 3, the others 1 or nothing at all.
    rows = np.zeros((40, 8))
    rows[1::3, 0], rows[2::3, 0] = 1, 3
    (found,) = nearest(Vectors(vectors_store(rows)), [query(np.eye(8)[0])], 15, "dot")
    assert found.rows.tolist() == [*range(2, 40, 3), 1, 4]
    assert found.scores.tolist() == [3.0] * 13 + [1.0] * 2


def test_zeros_have_a_cosine_of_zero(vectors_store):
    rows = np.zeros((9, 8))
    rows[4, 2], rows[7, 2] = 5, -5
    vectors = Vectors(vectors_store(rows))
    (found,) = nearest(vectors, [query(np.eye(8)[2])], 9)
    assert found.rows.tolist() == [4, 0, 1, 2, 3, 5, 6, 8, 7]
    assert found.scores.tolist() == [1.0, *[0.0] * 7, -1.0]
    (found,) = nearest(vectors, [query(np.zeros(8))], 3)
    assert found.scores.tolist() == [0.0] * 3


def test_the_same_for_any_number_of_threads_and_queries(vectors_store, monkeypatch):
    # Pieces of seven rows, of which four are held against all queries before the next ones.
    monkeypatch.setattr("pipeline.search.nearest.PIECE_BYTES", 7 * 2 * 21)
    monkeypatch.setattr("pipeline.search.nearest.NEAR_BYTES", 1)
    random = np.random.default_rng(0)
    held = vectors_store(
        random.normal(size=(83, 21)).astype(np.float16)[random.integers(0, 60, 83)], "float16"
    )
    vectors, queries = Vectors(held), [query(each) for each in random.normal(size=(5, 21))]
    together = nearest(vectors, queries, 10, threads=1)
    for threads in (2, 7):
        for one, other in zip(
            together, nearest(vectors, queries, 10, threads=threads), strict=True
        ):
            assert one.rows.tolist() == other.rows.tolist()
            assert one.scores.tolist() == other.scores.tolist()
    for given, found in zip(queries, together, strict=True):
        (alone,) = nearest(vectors, [given], 10)
        assert alone.rows.tolist() == found.rows.tolist()
        assert alone.scores.tolist() == found.scores.tolist()


def test_some_rows_only(small):
    given = np.random.default_rng(3).normal(size=50).astype(np.float32)
    among = np.zeros(12, bool)
    among[[1, 4, 5, 10]] = True
    (found,) = nearest(Vectors(small), [query(given)], 3, among=among)
    _, order = by_hand(scanned(small), given, "cosine")
    assert found.rows.tolist() == [row for row in order if row in (1, 4, 5, 10)][:3]
    (none,) = nearest(Vectors(small), [query(given)], 3, among=np.zeros(12, bool))
    assert len(none) == 0


def test_what_cannot_be_asked_is_refused(small):
    with pytest.raises(InputError, match="nearest 0 windows are none"):
        nearest(Vectors(small), [query(np.ones(50))], 0)
    with pytest.raises(InputError, match="has 49 numbers, those of the store 50"):
        nearest(Vectors(small), [query(np.ones(49))], 1, threads=3)


def test_the_best_are_kept_whatever_comes_in_between():
    best = Best(3)
    for first in range(0, 30, 2):
        scores = np.array([(7 * row) % 11 for row in (first, first + 1)], float)
        best.add(np.array([first, first + 1]), scores)
    # 7 · 3 = 21, 7 · 14 = 98 and 7 · 25 = 175 are 10 modulo 11.
    found = best.found()
    assert (found.rows.tolist(), found.scores.tolist()) == ([3, 14, 25], [10.0] * 3)
    assert isinstance(found, Found)
