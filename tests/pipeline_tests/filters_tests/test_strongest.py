"""The strongest responses, by hand."""

import math

import numpy as np
import pytest

from pipeline.filters import Response, Strongest, best_filters
from pipeline.filters.strongest import responses

# Of two filters, 2 rows and 3 columns.
MAPS = {
    "a": [[[0, 2, 1], [2, 0, 0]], [[0, 0, 0], [0, 0, 30]]],
    "b": [[[0, 0, 0], [0, 0, 5]], [[10, 0, 0], [0, 0, 0]]],
    "c": [[[5, 0, 0], [0, 0, 0]], [[0, 0, 0], [20, 0, 0]]],
}


def of(names: str, count: int = 2) -> Strongest:
    known = Strongest(count)
    for name in names:
        known.add(name, np.array(MAPS[name], np.float16))
    return known


def test_the_strongest_are_kept_with_their_cells() -> None:
    known = of("abc")
    # Of equal responses that of b, which came first.
    assert known.of(0) == [Response("b", 5.0, (2, 1)), Response("c", 5.0, (0, 0))]
    assert known.of(1) == [Response("a", 30.0, (2, 1)), Response("c", 20.0, (0, 1))]
    assert [each.image_id for each in of("cba").of(0)] == ["c", "b"]
    assert [each.image_id for each in of("ab", 9).of(0)] == ["b", "a"]


def test_the_first_of_equal_cells_is_taken() -> None:
    assert of("a").of(0) == [Response("a", 2.0, (1, 0))]


def test_means_deviations_and_standings() -> None:
    known = of("abc")
    assert known.mean.tolist() == [(2 + 5 + 5) / 3, (30 + 10 + 20) / 3]
    # Squares of what lies between responses and their mean: 4 + 1 + 1, and 100 + 100 + 0.
    assert known.deviation.tolist() == pytest.approx([math.sqrt(6 / 3), math.sqrt(200 / 3)])
    standings = known.standings(np.array([5.0, 30.0]))
    assert standings.tolist() == pytest.approx([1 / math.sqrt(2), 10 / math.sqrt(200 / 3)])


def test_filters_that_always_respond_alike_stand_at_zero() -> None:
    known = Strongest(1)
    for name in "abc":
        known.add(name, np.full((1, 2, 2), 0.1, np.float32))
    assert known.standings(np.array([0.1])).tolist() == [0.0]
    assert known.deviation.tolist() == [0.0]


def test_an_image_is_chosen_that_is_often_among_the_strongest() -> None:
    known = of("abc")
    assert known.most_often() == "c"  # b, c and a, c
    assert known.most_often([1]) == "a"  # a and c, once each: the first
    silent = Strongest(2)
    for name in "ab":
        silent.add(name, np.zeros((2, 1, 1)))
    silent.add("c", np.array([[[0.0]], [[1.0]]]))
    assert silent.most_often() == "c"  # zeros count for nobody


def filters_of(rows: list[list[float]]) -> Strongest:
    """One row an image, one column a filter."""
    known = Strongest(2)
    for number, row in enumerate(rows):
        known.add(str(number), np.array(row)[:, None, None])
    return known


def test_raw_responses_do_not_decide() -> None:
    # Filter 0 is always large; filter 1 is twice its mean here; filter 2 is at its mean.
    rows = [[100.0, 2.0, 5.0], [101.0, 0.5, 5.5], [103.0, 0.5, 4.5]]
    known = filters_of(rows)
    assert best_filters(np.array(rows[0]), known, 3, 2) == [1, 2, 0]
    assert best_filters(np.array(rows[0]), known, 1, 2) == [1]


def test_filters_that_hardly_anything_wakes_come_last() -> None:
    # Filter 0 responds to the first image alone: its standing is the highest there can be.
    rows = [[0.01, 4.0, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0]]
    known = filters_of(rows)
    assert known.standings(np.array(rows[0])).argmax() == 0
    assert best_filters(np.array(rows[0]), known, 3, shown=2) == [1, 0, 2]
    assert best_filters(np.array(rows[0]), known, 3, shown=1) == [0, 1, 2]


def test_of_one_image_the_strongest_response_counts() -> None:
    known = filters_of([[1.0, 3.0, 3.0, 0.0]])
    assert best_filters(np.array([1.0, 3.0, 3.0, 0.0]), known, 4, 4) == [1, 2, 0, 3]


def test_maps_with_channels_last_in_memory() -> None:
    last = np.ascontiguousarray(np.array(MAPS["a"], float).transpose(1, 2, 0)).transpose(2, 0, 1)
    values, cells = responses(last)
    assert (values.tolist(), cells.tolist()) == ([2.0, 30.0], [[1, 0], [2, 1]])
