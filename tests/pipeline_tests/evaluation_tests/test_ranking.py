"""Rows by class and by score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.ranking import best_first, groups

SCORES = [0.5, -1.25, 3.0, 0.5, -np.inf, 0.0, -0.0, np.inf, -1.0]
BY_HAND = [7, 2, 0, 3, 5, 6, 8, 1, 4]  # the halves and the zeros in row order


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_falling_scores_and_ties_in_row_order(dtype):
    assert best_first(np.array(SCORES, dtype)).tolist() == BY_HAND


@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_nan=False)))
def test_float32_ranks_as_a_stable_sort_does(scores):
    wide = scores.astype(np.float64)
    assert best_first(scores).tolist() == np.argsort(-wide, kind="stable").tolist()


def test_rows_of_each_code():
    rows = groups(np.array([2, 0, 2, 3, 0], np.int32), 4)
    assert [mine.tolist() for mine in rows] == [[1, 4], [], [0, 2], [3]]
    assert groups(np.array([], np.int32), 0) == []
    assert [mine.tolist() for mine in groups(np.array([], np.int32), 2)] == [[], []]


def test_more_classes_than_int16_has_numbers():
    codes = np.array([40_000, 3, 40_000], np.int32)
    rows = groups(codes, 40_001)
    assert (rows[40_000].tolist(), rows[3].tolist()) == ([0, 2], [1])
