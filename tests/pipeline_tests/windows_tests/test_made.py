import ctypes
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import windows
from pipeline.datasets import ImageRecord, Object
from pipeline.windows.selective_search import rank


@pytest.fixture(scope="module")
def scene():
    """Two plain rectangles on grey, slightly noisy: columns and rows are primes."""
    pixels = np.full((131, 167, 3), 120, np.uint8)
    pixels[23:79, 31:101] = (200, 40, 30)
    pixels[89:127, 107:163] = (20, 60, 210)
    noise = np.random.default_rng(0).integers(0, 9, pixels.shape, dtype=np.uint8)
    return pixels + noise


def test_selective_search_finds_the_rectangles(scene):
    found = windows.selective_search(scene, seed=0)
    record = ImageRecord(
        "a",
        Path("a"),
        167,
        131,
        (Object("x", (31.0, 23.0, 101.0, 79.0)), Object("x", (107.0, 89.0, 163.0, 127.0))),
    )
    assert windows.recall({"a": found}, [record], (0.9,)).by_threshold == {0.9: 1.0}
    assert [0, 0, 167, 131] in found.tolist()
    windows.check_windows(found, "a", 167, 131)


def test_selective_search_is_the_same_whatever_the_c_library_rolls(scene):
    libc, found = ctypes.CDLL(None), []
    threads = cv2.getNumThreads()
    for roll in (1, 2, 3):
        libc.srand(roll)
        cv2.setNumThreads(roll)
        found.append(windows.selective_search(scene, seed=5))
    cv2.setNumThreads(threads)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_the_seed_changes_the_order_and_nothing_else(scene):
    one, other = (windows.selective_search(scene, seed=seed, min_side_px=5) for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert {*map(tuple, one.tolist())} == {*map(tuple, other.tolist())}
    assert len({*map(tuple, one.tolist())}) == len(one)


def test_small_sides_are_dropped_and_at_most_n_kept(scene):
    everything = windows.selective_search(scene, seed=0, min_side_px=1)
    large = windows.selective_search(scene, seed=0, min_side_px=53)
    assert (large[:, 2:] - large[:, :2]).min() >= 53
    assert len(large) == ((everything[:, 2:] - everything[:, :2]).min(axis=1) >= 53).sum()
    kept = windows.selective_search(scene, seed=0, min_side_px=1, max_windows=7)
    assert np.array_equal(kept, everything[:7])


def test_a_working_size_gives_windows_of_the_original_image(scene):
    large = cv2.resize(scene, (167 * 3, 131 * 3), interpolation=cv2.INTER_NEAREST)
    found = windows.selective_search(large, seed=0, working_side_px=131)
    assert [0, 0, 501, 393] in found.tolist()
    assert np.array_equal(found, np.round(found))
    assert len(np.unique(found, axis=0)) == len(found)
    windows.check_windows(found, "a", 501, 393)
    record = ImageRecord("a", Path("a"), 501, 393, (Object("x", (93.0, 69.0, 303.0, 237.0)),))
    assert windows.recall({"a": found}, [record], (0.9,)).by_threshold == {0.9: 1.0}


def test_an_image_smaller_than_the_smallest_window_has_none():
    assert windows.selective_search(np.zeros((9, 30, 3), np.uint8), seed=0).shape == (0, 4)


@given(st.permutations(range(6)), st.integers(0, 99))
def test_rank_does_not_depend_on_the_input_order(order, seed):
    shapes = [(2, 6), (6, 2), (3, 4), (4, 3), (1, 12), (5, 5)]  # five of one area
    boxes = np.array([[0, 0, width, height] for width, height in shapes], np.float32)
    shuffled = boxes[list(order)]
    assert np.array_equal(boxes[rank(boxes, seed)], shuffled[rank(shuffled, seed)])


def test_rank_puts_large_windows_first_on_the_whole():
    sides = np.arange(1, 1001, dtype=np.float32)
    boxes = np.stack([np.zeros(1000), np.zeros(1000), sides, sides], axis=1).astype(np.float32)
    ranked = sides[rank(boxes, 0)]
    assert ranked[:100].mean() > ranked[100:300].mean() > ranked[-100:].mean()
    assert ranked[:100].min() < 500  # but not by size alone


def test_grid_by_hand():
    found = windows.grid(50, 30, sides_px=[20], aspect_ratios=[1], step=0.75)
    # room 30 and 10, at most 15 apart: columns 0 15 30, rows 0 10
    corners = [(x, y) for y in (0, 10) for x in (0, 15, 30)]
    assert found.tolist() == [[0, 0, 50, 30], *([x, y, x + 20, y + 20] for x, y in corners)]


@settings(max_examples=40)
@given(st.integers(20, 200), st.integers(20, 200), st.floats(0.1, 1))
def test_grid_stays_inside_touches_the_edges_and_repeats_nothing(width, height, step):
    found = windows.grid(width, height, step=step)
    windows.check_windows(found, "a", width, height)
    assert found[:, 2].max() == width
    assert found[:, 3].max() == height
    assert found.min() == 0
    assert len(np.unique(found, axis=0)) == len(found)


def test_grid_shapes_that_do_not_fit_are_left_out():
    assert windows.grid(40, 500, sides_px=[64], aspect_ratios=[1]).tolist() == [[0, 0, 40, 500]]
    # 64 * sqrt(1/4) = 32 wide and 128 high fits
    tall = windows.grid(40, 500, sides_px=[64], aspect_ratios=[0.25])[1:]
    assert {*map(tuple, (tall[:, 2:] - tall[:, :2]).tolist())} == {(32, 128)}
    assert len(windows.grid(40, 500, sides_px=[64], aspect_ratios=[0.25], min_side_px=33)) == 1
    with pytest.raises(ValueError, match="step is 0"):
        windows.grid(40, 40, step=0)


def test_recall_by_hand():
    objects = (
        Object("x", (0.0, 0.0, 10.0, 10.0)),
        Object("x", (20.0, 0.0, 30.0, 10.0)),
        Object("x", (40.0, 0.0, 50.0, 10.0), difficult=True),
    )
    records = [
        ImageRecord("a", Path("a"), 60, 20, objects),
        ImageRecord("b", Path("b"), 60, 20, objects[:1]),
        ImageRecord("c", Path("c"), 60, 20, ()),
    ]
    made = {
        # IoU with the first object 50/100, with the second 70/100, with the third 1
        "a": [[0, 0, 5, 10], [20, 0, 27, 10], [40, 0, 50, 10]],
        "c": [[0, 0, 1, 1]],
    }
    result = windows.recall(made, records, (0.5, 0.7, 0.71))
    assert result.by_threshold == {0.5: 2 / 3, 0.7: 1 / 3, 0.71: 0.0}
    assert result.objects == 3
    assert result.windows_per_image == 4 / 3
    assert windows.recall(made, records, (0.5,), include_difficult=True).by_threshold == {
        0.5: 3 / 4
    }


def test_recall_of_nothing():
    assert math.isnan(windows.recall({}, []).by_threshold[0.5])
    result = windows.recall({}, [ImageRecord("a", Path("a"), 9, 9, ())])
    assert (result.objects, result.windows_per_image) == (0, 0.0)
    assert math.isnan(result.by_threshold[0.7])
