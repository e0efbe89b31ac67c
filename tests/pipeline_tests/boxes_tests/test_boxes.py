"""Overlap, suppression, mirror images and regression targets of boxes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import boxes

LEFT, MIDDLE, RIGHT = [0, 0, 13, 1], [7, 0, 20, 1], [14, 0, 27, 1]  # neighbours share 6 of 20


@st.composite
def lattice_boxes(draw, most=8):
    """Boxes on a coarse lattice, so that overlaps, ties and repeats are many."""
    side = st.tuples(st.integers(0, 5), st.integers(1, 5)).map(lambda s: (s[0], s[0] + s[1]))
    pairs = draw(st.lists(st.tuples(side, side), max_size=most))
    return [[x[0], y[0], x[1], y[1]] for x, y in pairs]


def test_iou_by_hand():
    # 1-based inclusive (1,1,10,10) and (6,6,15,15): 5 by 5 pixels of 100 + 100 - 25
    assert boxes.iou([[0, 0, 10, 10]], [[5, 5, 15, 15]]).tolist() == [[1 / 7]]
    # 8x8 against 7x7, sharing 5 by 3
    overlaps = boxes.iou([[0, 0, 8, 8]], [[3, 5, 10, 12], [8, 0, 9, 1], [0, 0, 8, 8]])
    assert overlaps.tolist() == [[15 / (64 + 49 - 15), 0, 1]]


def test_boxes_without_area_overlap_nothing():
    empty, reversed_ = [5, 5, 5, 9], [9, 9, 5, 5]
    assert (
        boxes.iou([empty, reversed_], [empty, reversed_, [0, 0, 10, 10]]).tolist() == [[0] * 3] * 2
    )
    assert boxes.area([empty, reversed_, [1, 2, 4, 7]]).tolist() == [0, 0, 15]


def test_no_boxes():
    assert boxes.iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert boxes.iou([[0, 0, 1, 1]], np.zeros((0, 4), np.float32)).shape == (1, 0)
    assert boxes.nms([], [], 0.3).tolist() == []
    assert boxes.flip([], 10).shape == (0, 4)
    assert boxes.encode([], []).shape == (0, 4)
    assert boxes.decode([], []).shape == (0, 4)
    assert boxes.clip([], 3, 3).shape == (0, 4)


@pytest.mark.parametrize("given_as", [list, np.array, torch.tensor])
def test_array_likes_of_every_kind(given_as):
    assert boxes.iou(given_as([LEFT]), given_as([MIDDLE])).tolist() == [[0.3]]
    assert boxes.nms(given_as([LEFT, MIDDLE]), given_as([0.1, 0.2]), 0).tolist() == [1]
    assert boxes.flip(given_as([LEFT]), 20).tolist() == [[7, 0, 20, 1]]
    assert boxes.flip([tuple(LEFT)], 20.5).tolist() == [[7.5, 0, 20.5, 1]]


@pytest.mark.parametrize("bad", [[1, 2, 3, 4], [[1, 2, 3]], [[[1, 2, 3, 4]]]])
def test_other_shapes_are_refused(bad):
    with pytest.raises(ValueError, match=r"they must be \[windows, 4\]"):
        boxes.area(bad)


def test_an_overlap_of_exactly_the_threshold_is_kept():
    assert boxes.nms([LEFT, MIDDLE, RIGHT], [3, 2, 1], 0.3).tolist() == [0, 1, 2]
    assert boxes.nms([LEFT, MIDDLE, RIGHT], [3, 2, 1], 0.2999).tolist() == [0, 2]
    float32 = np.array([LEFT, MIDDLE], np.float32)
    assert boxes.nms(float32, np.array([3, 2], np.float32), 0.3).tolist() == [0, 1]


def test_only_kept_boxes_suppress():
    # the middle one falls to the left one, and then no longer suppresses the right one
    assert boxes.nms([LEFT, MIDDLE, RIGHT], [3, 2, 1], 0.1).tolist() == [0, 2]
    assert boxes.nms([LEFT, MIDDLE, RIGHT], [1, 3, 2], 0.1).tolist() == [1]


def test_equal_scores_keep_input_order():
    assert boxes.nms([LEFT, MIDDLE], [1, 1], 0.1).tolist() == [0]
    assert boxes.nms([MIDDLE, LEFT], [1, 1], 0.1).tolist() == [0]
    many = [[10 * k, 0, 10 * k + 5, 5] for k in range(40)]
    assert boxes.nms(many, [0.5] * 40, 0.3).tolist() == list(range(40))


def test_scores_and_boxes_must_match():
    with pytest.raises(ValueError, match="2 boxes but 1 scores"):
        boxes.nms([LEFT, RIGHT], [1], 0.3)


def plain_nms(array, scores, threshold):
    left = sorted(range(len(array)), key=lambda k: -scores[k])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [k for k in left if boxes.iou([array[best]], [array[k]])[0, 0] <= threshold]
    return kept


@given(lattice_boxes(), st.data(), st.sampled_from([0, 1 / 7, 0.3, 0.5, 1]))
def test_nms_equals_the_rule_told_plainly(array, data, threshold):
    scores = data.draw(st.lists(st.integers(0, 3), min_size=len(array), max_size=len(array)))
    assert boxes.nms(array, scores, threshold).tolist() == plain_nms(array, scores, threshold)


@given(lattice_boxes(), st.data(), st.sampled_from([0, 0.3, 0.5]))
def test_nms_invariants(array, data, threshold):
    scores = data.draw(st.permutations(range(len(array))))
    kept = boxes.nms(array, scores, threshold).tolist()
    overlaps = boxes.iou(array, array)
    assert [scores[k] for k in kept] == sorted((scores[k] for k in kept), reverse=True)
    assert all(overlaps[a, b] <= threshold for a in kept for b in kept if a != b)
    for dropped in set(range(len(array))) - set(kept):
        better = [k for k in kept if scores[k] > scores[dropped]]
        assert any(overlaps[dropped, k] > threshold for k in better)
    order = data.draw(st.permutations(range(len(array))))
    shuffled = boxes.nms([array[k] for k in order], [scores[k] for k in order], threshold)
    assert [order[k] for k in shuffled] == kept


def test_flip_by_hand():
    assert boxes.flip([[10, 20, 30, 40]], 101).tolist() == [[71, 20, 91, 40]]


@given(lattice_boxes(), st.integers(10, 20))
def test_two_flips_change_nothing(array, width):
    twice = boxes.flip(boxes.flip(array, width), width)
    assert np.array_equal(twice, boxes.as_boxes(array))


def test_clip_by_hand():
    assert boxes.clip([[-3, 2, 17, 40], [5, 5, 6, 6]], 11, 13).tolist() == [
        [0, 2, 11, 13],
        [5, 5, 6, 6],
    ]


def test_encode_by_hand():
    # 99 by 199 px about (59.5, 119.5) to 119 by 179 px about (79.5, 119.5)
    (delta,) = boxes.encode([[10, 20, 109, 219]], [[20, 30, 139, 209]])
    np.testing.assert_allclose(delta, [20 / 99, 0, math.log(119 / 99), math.log(179 / 199)])
    np.testing.assert_allclose(delta, [0.2020202, 0, 0.1840036, -0.1059190], atol=5e-8)
    np.testing.assert_allclose(boxes.decode([[10, 20, 109, 219]], [delta]), [[20, 30, 139, 209]])


@given(lattice_boxes(), st.data())
def test_decode_undoes_encode(windows, data):
    targets = data.draw(st.permutations(windows))
    found = boxes.decode(windows, boxes.encode(windows, targets))
    np.testing.assert_allclose(found, boxes.as_boxes(targets), atol=1e-12)


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5, 9, 7, 2]])
def test_empty_boxes_have_no_targets(box):
    with pytest.raises(ValueError, match=r"window 1 is empty: \[5.0, "):
        boxes.encode([LEFT, box], [LEFT, LEFT])
    with pytest.raises(ValueError, match="target 1 is empty"):
        boxes.encode([LEFT, LEFT], [LEFT, box])
    with pytest.raises(ValueError, match="window 0 is empty"):
        boxes.decode([box], [[0, 0, 0, 0]])
