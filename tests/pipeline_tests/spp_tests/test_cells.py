"""Which cells a window covers, and at which scale it is looked at."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.networks import Geometry
from pipeline.spp import choose_scale, distinct, project

ZF5 = Geometry(16, 20, 6.5)
FIVE = (480, 576, 688, 864, 1200)


def spans(first, last, count, geometry=ZF5):
    """1-based cells, inclusive, of the 1-based pixels `first..last` on both axes."""
    (cells,) = project([[first - 1, first - 1, last, last]], geometry, (count, count)).tolist()
    assert cells[:2] == [cells[0]] * 2
    assert cells[2:] == [cells[2]] * 2
    return cells[0] + 1, cells[2]


@pytest.mark.parametrize(
    ("pixels", "count", "cells"),
    [
        ((1, 688), 42, (1, 42)),
        ((100, 300), 42, (6, 18)),
        ((95, 98), 42, (5, 5)),  # first 6, last 4: both become 5
        ((1, 224), 13, (1, 13)),
    ],
)
def test_spans_of_zf5(pixels, count, cells):
    assert spans(*pixels, count) == cells


def test_axes_are_independent():
    boxes = [[99, 94, 300, 98], [94, 99, 98, 300]]
    assert project(boxes, ZF5, (42, 42)).tolist() == [[5, 4, 18, 5], [4, 5, 5, 18]]
    # 42 columns but 13 rows: only the rows are cut
    assert project([[0, 0, 688, 688]], ZF5, (42, 13)).tolist() == [[0, 0, 42, 13]]


def test_the_result_is_half_open_int32():
    cells = project([[0, 0, 1, 1]], Geometry(16, 8), (3, 3))
    assert cells.dtype == np.int32
    assert cells.tolist() == [[0, 0, 1, 1]]
    assert project([], ZF5, (3, 3)).shape == (0, 4)


def test_crossing_spans_meet_before_they_are_cut():
    # pixel 0: first = floor(-5.5/16) = -1, last = ceil(-34.5/16) = -2, meeting at -2, cut to 0
    assert project([[0, 0, 1, 1]], ZF5, (2, 2)).tolist() == [[0, 0, 1, 1]]
    # Stride 2, centre 0, shrink 5: pixel 6 gives first = floor(11/2 + 1/2) = 6 and
    # last = ceil(1/2 - 1/2) = 0. They meet at 3, inside a map of 4 cells; cut to 3 and 0 first,
    # they would have met at floor(3/2) = 1.
    assert project([[6, 6, 7, 7]], Geometry(2, 0, 5), (4, 4)).tolist() == [[3, 3, 4, 4]]


def test_ties_round_towards_each_other():
    # Edges half-way between two cells: the first rounds up, the last down.
    # stride 4, centre 0: p0 = 2 gives floor(2/4 + 1/2) = 1; p1 = 6 gives ceil(6/4 - 1/2) = 1.
    assert project([[2, 2, 7, 7]], Geometry(4, 0), (9, 9)).tolist() == [[1, 1, 2, 2]]


def plainly(box, geometry, map_size):
    """SPEC §3 for one window."""
    S, c0, e = geometry.stride, geometry.centre, geometry.shrink
    found = [0, 0, 0, 0]
    for axis in (0, 1):
        first = math.floor((box[axis] - c0 + e) / S + 1 / 2)
        last = math.ceil((box[axis + 2] - 1 - c0 - e) / S - 1 / 2)
        if first > last:
            first = last = math.floor((first + last) / 2)
        first, last = (min(max(cell, 0), map_size[axis] - 1) for cell in (first, last))
        found[axis], found[axis + 2] = first, last + 1
    return found


geometries = st.builds(
    Geometry,
    st.sampled_from([1, 2, 8, 16, 32]),
    st.sampled_from([0, 3.5, 8.5, 15, 20, 77]),
    st.sampled_from([0.0, 1.0, 6.5, 40.0]),
)


@st.composite
def windows_in_an_image(draw):
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    numbers = st.floats(0, 1, width=32)
    corners = draw(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=9))
    array = np.array(corners, np.float32) * [width, height, width, height]
    low, high = np.minimum(array[:, :2], array[:, 2:]), np.maximum(array[:, :2], array[:, 2:])
    return np.hstack([low, np.maximum(high, low + 0.01)])


@given(windows_in_an_image(), geometries, st.integers(1, 40), st.integers(1, 40))
def test_every_window_has_a_cell_inside_the_map(windows, geometry, cols, rows):
    cells = project(windows, geometry, (cols, rows))
    assert (cells[:, :2] >= 0).all()
    assert (cells[:, :2] < cells[:, 2:]).all()
    assert (cells[:, 2:] <= [cols, rows]).all()
    assert cells.tolist() == [plainly(box, geometry, (cols, rows)) for box in windows.tolist()]


def test_the_papers_window_is_seen_at_576():
    # 120x160 px in 500x375: 19,200 px² times (576/375)² is 45,298, nearest to 50,176
    assert choose_scale([[0, 0, 120, 160]], (500, 375), FIVE).tolist() == [1]
    assert choose_scale([[0, 0, 160, 120]], (375, 500), FIVE).tolist() == [1]


def test_small_windows_are_enlarged_and_large_ones_are_not():
    boxes = [[0, 0, 20, 20], [0, 0, 300, 300], [3, 3, 120, 130]]
    assert choose_scale(boxes, (400, 300), FIVE).tolist() == [4, 0, 1]
    assert choose_scale(boxes, (400, 300), [600]).tolist() == [0, 0, 0]
    assert choose_scale([], (400, 300), FIVE).tolist() == []


@pytest.mark.parametrize("scales", [(800, 1500), (1500, 800), (300, 1500, 800)])
def test_a_tie_goes_to_the_smaller_scale(scales):
    # A window of 2 · 224² px in an image of 1700 px: (8² + 15²) / 17² = 1, so that both scales
    # make its area differ from 224² by the same, one below and one above.
    window = [[0, 0, 256, 392]]
    assert 2 * 224**2 == 256 * 392
    assert choose_scale(window, (1700, 1700), scales).tolist() == [scales.index(800)]


def test_another_side_to_be_near_to():
    # 40x40 px in 100x100 are 75x75 at scale 187.5 and 224x224 at scale 560
    box, scales = [[0, 0, 40, 40]], (100, 190, 600)
    assert choose_scale(box, (100, 100), scales, reference_side_px=75).tolist() == [1]
    assert choose_scale(box, (100, 100), scales).tolist() == [2]


def test_no_scale_and_no_such_rule():
    with pytest.raises(ValueError, match="no scales"):
        choose_scale([[0, 0, 1, 1]], (9, 9), ())


def test_released_rule_by_hand():
    # round(208 · 375 / √19,200) = round(562.92) = 563, nearest to 576
    assert choose_scale([[0, 0, 120, 160]], (500, 375), FIVE, "released").tolist() == [1]
    # 40x40 px in 100x100: the ideal, 208 · 100 / 40 = 520, is 40 from 480 and 56 from 576; but
    # by area 1,600 · 5.76² = 53,084 is nearer to 50,176 than 1,600 · 4.8² = 36,864
    box = [[0, 0, 40, 40]]
    assert choose_scale(box, (100, 100), FIVE, "released").tolist() == [0]
    assert choose_scale(box, (100, 100), FIVE).tolist() == [1]


@pytest.mark.parametrize("scales", [(500, 540), (540, 500)])
def test_released_ties_go_to_the_smaller_scale(scales):
    # the ideal 520 is 20 from both
    chosen = choose_scale([[0, 0, 40, 40]], (100, 100), scales, "released")
    assert chosen.tolist() == [scales.index(500)]


def test_distinct_cells_come_in_the_order_of_the_windows():
    cells = np.array([[7, 2, 9, 3], [0, 0, 5, 5], [7, 2, 9, 3], [7, 2, 9, 4], [0, 0, 5, 5]])
    found, places = distinct(cells)
    assert found.tolist() == [[7, 2, 9, 3], [0, 0, 5, 5], [7, 2, 9, 4]]
    assert places.tolist() == [0, 1, 0, 2, 1]
    assert (found.dtype, places.dtype) == (np.int32, np.int64)
    found, places = distinct(found)
    assert places.tolist() == [0, 1, 2]


def test_no_cells_are_distinct():
    found, places = distinct(np.zeros((0, 4), np.int32))
    assert (found.shape, places.shape) == ((0, 4), (0,))


cell_numbers = st.one_of(st.integers(0, 3), st.integers(0, 65_535), st.just(70_000))


@given(st.lists(st.tuples(*[cell_numbers] * 4), max_size=40))
def test_distinct_cells_give_all_back(made):
    cells = np.array(made, np.int32).reshape(-1, 4)
    found, places = distinct(cells)
    assert found[places].tolist() == cells.tolist()
    assert len(found) == len(set(made))


def test_cells_of_a_map_of_more_than_65_536_columns():
    # 65,543 and 7 are one number of 16 bits
    cells = np.array([[65_543, 2, 65_545, 3], [7, 2, 9, 3], [65_543, 2, 65_545, 3]], np.int32)
    found, places = distinct(cells)
    assert found.tolist() == [[65_543, 2, 65_545, 3], [7, 2, 9, 3]]
    assert places.tolist() == [0, 1, 0]
    assert (found.dtype, places.dtype) == (np.int32, np.int64)
