"""Overlapping windows of an image are one hit, and what is asked for may be no stored window."""

from functools import partial

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.learning.classifiers import Classifiers
from pipeline.search.asking import region, window
from pipeline.search.nearest import nearest
from pipeline.search.similar import folded, rows_where, similar
from pipeline.store.blocks import query
from pipeline.store.rows import Vectors
from pipeline.teaching.examples import from_sql

# IoU of the first two: 80 / 120 = 2/3; of the first and the third: 30 / 170, less than 0.3.
BOXES = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [7, 0, 17, 10], [0, 0, 10, 10]], float)


def test_windows_of_one_object_are_one_hit():
    assert folded(["a", "a", "a", "a"], BOXES, 0.3).tolist() == [0, 2]
    # The second overlaps the third by 50 / 150 > 0.3, but was folded into the first.
    assert folded(["a", "a", "b", "b"], BOXES, 0.3).tolist() == [0, 2, 3]
    assert folded(["a", "b", "a", "b"], BOXES, 0.3).tolist() == [0, 1, 2]
    assert folded(["a", "a", "a", "a"], BOXES, 0.7).tolist() == [0, 1, 2]
    assert folded([], BOXES[:0], 0.3).tolist() == []


@pytest.fixture
def crowded(made, make_store, tmp_path):
    """Ninety windows of one object before five of others, in as many images."""
    near = np.zeros((90, 8))
    near[:, 0], near[:, 1] = 1, np.linspace(0, 0.5, 90)
    far = np.zeros((5, 8))
    far[:, 0], far[:, 1] = 1, np.linspace(1, 2, 5)
    shards = [
        {"a": made(near, [[0, 0, 50, 50 + k % 3] for k in range(90)])},
        {f"b{k}": made(far[k : k + 1], [[0, 0, 9, 9]]) for k in range(5)},
    ]
    return make_store(tmp_path / "store", shards, 8)


def test_more_rows_are_asked_for_until_there_are_enough_hits(crowded, monkeypatch):
    monkeypatch.setattr("pipeline.search.similar.ROWS_PER_HIT", 1)
    asked = []

    def find(queries, bound):
        asked.append(bound)
        return nearest(vectors, queries, bound)

    monkeypatch.setattr("pipeline.search.similar.FEWEST_ROWS", 4)
    vectors, given = Vectors(crowded), query(np.eye(8)[0])
    (hits,) = similar(vectors, [given], 4, find)
    assert hits.windows["image_id"].to_pylist() == ["a", "b0", "b1", "b2"]
    assert hits.rows.tolist() == [0, 90, 91, 92]
    assert asked == [4, 32, 96]
    assert hits.passes == 3
    # 95 rows and six hits: it ends, although there are fewer than were wanted.
    (hits,) = similar(vectors, [given], 50, find)
    assert len(hits.rows) == 6
    (hits,) = similar(vectors, [given], 50, find, fold=None)
    assert hits.rows.tolist() == list(range(50))


def test_hits_are_those_of_all_rows(vectors_store, monkeypatch):
    monkeypatch.setattr("pipeline.search.similar.FEWEST_ROWS", 2)
    monkeypatch.setattr("pipeline.search.similar.ROWS_PER_HIT", 1)
    random = np.random.default_rng(5)
    held = vectors_store(random.normal(size=(60, 8)))
    vectors, queries = Vectors(held), [query(each) for each in random.normal(size=(3, 8))]
    found = nearest(vectors, queries, 60)
    for hits, ranked in zip(
        similar(vectors, queries, 6, partial(nearest, vectors)), found, strict=True
    ):
        kept = []
        for row in ranked.rows.tolist():
            # Neighbours in their image: rows beside each other, unless a multiple of 8 begins one.
            beside = {row - 1 if row % 8 else None, row + 1 if row % 8 < 7 else None}
            if not beside & set(kept):
                kept.append(row)
        assert hits.rows.tolist() == kept[:6]
        windows = hits.windows.to_pylist()
        assert [each["image_id"] for each in windows] == [f"{8 * (r // 8):05d}" for r in kept[:6]]
        assert [each["window_id"] for each in windows] == [r % 8 for r in kept[:6]]


def test_rows_by_a_condition(small):
    # Image a has rows 0 to 2, b 3 to 6, c 7 to 11.
    vectors = Vectors(small)
    found = rows_where(vectors, "image_id IN ('b', 'c') AND window_id > 1 -- but not a")
    assert np.flatnonzero(found).tolist() == [5, 6, 9, 10, 11]
    # As in every query: other tables, and classes that were learnt.
    ones = Classifiers(("one",), np.ones((1, 50), np.float32), np.zeros(1, np.float32), 1.0, {})
    found = rows_where(vectors, "score('one', vector) > 0", [ones])
    sums = vectors.take(np.arange(12)).astype(np.float64).sum(axis=1)
    assert np.flatnonzero(found).tolist() == np.flatnonzero(sums > 0).tolist()
    assert 0 < found.sum() < 12
    objects = "window_id = (SELECT max(object_id) FROM objects WHERE \"class\" = 'cat')"
    assert np.flatnonzero(rows_where(vectors, objects)).tolist() == [0, 3, 7]


@pytest.mark.parametrize("small", ["windows"], indirect=True)
@pytest.mark.parametrize(
    "where",
    ["true) UNION ALL (SELECT 999", "true], [false", "true; SELECT 1", "", "nothing > 1", "/*"],
)
def test_what_is_no_condition_is_refused(small, where):
    for read in (
        lambda: rows_where(Vectors(small), where),
        lambda: list(small.scan(where=where)),
        lambda: from_sql(small, where),
    ):
        with pytest.raises(InputError, match=r"cannot be used|the query failed"):
            read()


# --- what is asked for ----------------------------------------------------------------------------


def test_a_window_is_named_by_image_and_number(small):
    wanted = window(small, Vectors(small), "c", 2)
    assert np.array_equal(wanted.vector, Vectors(small).take(np.array([9]))[0])
    assert (wanted.image, wanted.box) == ("c", (7.0, 8.0, 9.0, 10.0))
    with pytest.raises(InputError, match="image c has no window 5: it has 0 to 4"):
        window(small, Vectors(small), "c", 5)
    with pytest.raises(InputError, match="no windows of an image e"):
        window(small, Vectors(small), "e", 0)


def test_a_stored_window_stands_for_a_box(crowded):
    vectors = Vectors(crowded)
    wanted = region(crowded, vectors, "a", [0, 0, 50, 60])
    assert wanted.box == (0.0, 0.0, 50.0, 52.0)
    assert wanted.instead_of == (0.0, 0.0, 50.0, 60.0)
    assert wanted.iou == 52 / 60
    assert np.array_equal(wanted.vector, vectors.take(np.array([2]))[0])
    same = region(crowded, vectors, "a", [0, 0, 50, 51])
    assert (same.box, same.instead_of) == ((0.0, 0.0, 50.0, 51.0), ())
    with pytest.raises(InputError, match=r"by 0\.5: the best has an IoU of 0\.26; name the store"):
        region(crowded, vectors, "a", None)
    with pytest.raises(InputError, match="no image of"):
        region(crowded, vectors, "z", [0, 0, 5, 5])
