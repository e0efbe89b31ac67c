"""Which windows box regression learns from, by hand."""

from functools import partial

import numpy as np
import pytest

from pipeline.config import Regression
from pipeline.datasets.records import Object
from pipeline.learning.box_pairs import RegressionSpec, pair_shard, pairs, read_pairs
from pipeline.store import Vectors

OBJECT = [0.0, 0.0, 12.0, 7.0]  # 84 px


def found(windows, is_truth, objects, classes, counts=None, min_iou=0.5):
    known = (
        np.array(objects, float).reshape(-1, 4),
        np.array(classes, int),
        np.array(counts if counts is not None else [True] * len(objects), bool),
    )
    boxes = np.array(windows, float).reshape(-1, 4)
    row, k, moves = pairs(boxes, np.array(is_truth, bool), known, min_iou)
    return list(zip(row.tolist(), k.tolist(), strict=True)), moves


def test_a_window_learns_from_an_object_that_it_overlaps_by_exactly_the_limit():
    half, less = [0, 0, 12, 3.5], [0, 0, 12, 3.4]  # 42 and 40.8 of 84 px
    assert found([half, less], [False, False], [OBJECT], [4])[0] == [(0, 4)]
    assert found([half, less], [False, False], [OBJECT], [4], min_iou=0.48)[0] == [(0, 4), (1, 4)]


def test_the_move_leads_from_the_window_to_the_object():
    # Twice as high: the centre moves down by half the window's height, ln 2 is the growth.
    _, moves = found([[0, 0, 12, 3.5]], [False], [OBJECT], [0])
    np.testing.assert_allclose(moves, [[0, 0.5, 0, np.log(2)]])


def test_a_window_goes_to_the_object_of_any_class_that_it_overlaps_most():
    near = [0.0, 0.0, 12.0, 6.0]  # 72 px: with the window 60/72, the object has 60/84
    window = [0.0, 0.0, 12.0, 5.0]
    assert found([window], [False], [OBJECT, near], [3, 5])[0] == [(0, 5)]
    assert found([window], [False], [near, near], [3, 5])[0] == [(0, 3)]  # of equals the first


def test_an_object_is_a_window_that_stays_and_one_for_each_class_that_has_it():
    row, moves = found([OBJECT, OBJECT], [True, False], [OBJECT, OBJECT], [2, 6])
    # The window beside it goes to the first of the two; the object itself to both.
    assert row == [(1, 2), (0, 2), (0, 6)]
    assert moves.tolist() == [[0, 0, 0, 0]] * 3


def test_objects_that_are_not_learnt_from_take_their_windows_along():
    near = [0.0, 0.0, 12.0, 6.0]
    windows, truth = [[0, 0, 12, 5.5], OBJECT, near], [False, True, True]
    row, _ = found(windows, truth, [OBJECT, near], [0, 1], counts=[True, False])
    assert row == [(1, 0)]  # the window is nearest to the other one


@pytest.mark.parametrize("windows", [[], [[0, 0, 5, 5]]])
def test_without_objects_or_windows_there_is_nothing(windows):
    row, moves = found(windows, [False] * len(windows), [], [])
    assert row == []
    assert moves.shape == (0, 4)
    assert found([], [], [OBJECT], [0])[0] == []


def test_pairs_of_all_shards_are_read_in_order_of_rows(make_store, made, tmp_path):
    cat, dog = Object("cat", (0.0, 0.0, 12.0, 7.0)), Object("dog", (20.0, 20.0, 30.0, 30.0))
    near_cat, near_dog, far = [0, 0, 12, 6], [20, 20, 30, 29], [50, 50, 60, 60]
    shards = [
        {
            "a": made([[3, 4], [0, 5], [6, 8], [1, 0]], [near_dog, near_cat], (cat, dog)),
            "b": made([[1, 0]], [far]),
        },
        {"c": made([[0, 1], [1, 1], [8, 6]], [far, near_cat], (cat,))},
    ]
    held = make_store(tmp_path / "store", shards, 2)
    spec = RegressionSpec(held, ("cat", "dog"), Regression(), True, 1000, 0)
    work = partial(pair_shard, spec, folder=tmp_path / "pairs")
    stats = [work(entry.shard_id) for entry in held.shards]
    assert [each.pairs for each in stats] == [[2, 2], [2, 0]]
    # Every window counts: 5 + 5 + 10 + 1 + 1 and 1 + √2 + 10.
    assert [each.norm_count for each in stats] == [5, 3]
    np.testing.assert_allclose([each.norm_sum for each in stats], [22, 11 + 2**0.5])
    first = Vectors(held).first
    assert read_pairs(tmp_path / "pairs", spec, 0, first).rows.tolist() == [1, 2, 6, 7]
    assert read_pairs(tmp_path / "pairs", spec, 1, first).rows.tolist() == [0, 3]
    assert read_pairs(tmp_path / "pairs", spec, 1, first).moves[1].tolist() == [0, 0, 0, 0]
