"""Which windows are positives and negatives, and which of them are taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import boxes
from pipeline.learning import overlap, sampling

CAT, DOG, BIRD = 0, 1, 2
# The first is a cat's box. Overlaps with it: 1, 6/20 (two neighbours 13 wide), 5/21, 0.
WINDOWS = [[0, 0, 13, 1], [7, 0, 20, 1], [8, 0, 21, 1], [50, 50, 60, 60]]


def label(truth=(0, 0, 0, 0), objects=(), windows=WINDOWS, negative_iou=0.3):
    found = [box for box, _, _ in objects]
    return sampling.label(
        "a",
        boxes.as_boxes(windows),
        np.array(truth, bool),
        boxes.as_boxes(found),
        np.array([k for _, k, _ in objects], np.int64),
        np.array([counts for _, _, counts in objects], bool),
        3,
        negative_iou,
    )


def column(flags, k):
    return flags[:, k].astype(int).tolist()


def test_negatives_stay_strictly_below_the_limit():
    labelled = label(objects=[(WINDOWS[0], CAT, True)])
    assert column(labelled.negative, CAT) == [0, 0, 1, 1]  # 0.3 itself is no negative
    labelled = label(objects=[(WINDOWS[0], CAT, True)], negative_iou=0.2)
    assert column(labelled.negative, CAT) == [0, 0, 0, 1]


def test_other_classes_objects_are_negatives():
    labelled = label((1, 0, 0, 0), objects=[(WINDOWS[0], CAT, True)])
    assert column(labelled.negative, DOG) == [1, 1, 1, 1]
    assert column(labelled.positive, DOG) == [0, 0, 0, 0]


def test_every_object_of_the_class_counts():
    labelled = label(objects=[(WINDOWS[0], CAT, True), (WINDOWS[3], CAT, True)])
    assert column(labelled.negative, CAT) == [0, 0, 1, 0]


def test_only_ground_truth_rows_are_positives():
    objects = [(WINDOWS[0], CAT, True), (WINDOWS[3], DOG, True)]
    labelled = label((1, 0, 0, 1), objects)
    assert column(labelled.positive, CAT) == [1, 0, 0, 0]
    assert column(labelled.positive, DOG) == [0, 0, 0, 1]
    # a proposed window with the very box of an object is neither
    proposed = label((0, 0, 0, 1), objects)
    assert column(proposed.positive, CAT) == [0, 0, 0, 0]
    assert column(proposed.negative, CAT) == [0, 0, 1, 1]


def test_two_classes_may_share_a_box():
    labelled = label((1, 1, 0, 0), [(WINDOWS[0], CAT, True), (WINDOWS[0], DOG, True)])
    assert labelled.positive[0].tolist() == [True, True, False]


def test_a_difficult_object_that_does_not_count_is_still_no_negative():
    labelled = label((1, 0, 0, 0), [(WINDOWS[0], CAT, False)])
    assert column(labelled.positive, CAT) == [0, 0, 0, 0]
    assert column(labelled.negative, CAT) == [0, 0, 1, 1]


def test_images_without_objects_or_windows():
    assert label().negative.all()
    assert not label().positive.any()
    assert label((), windows=[]).negative.shape == (0, 3)


def made(windows, negative, image_id="a"):
    negative = np.array(negative, bool)
    return sampling.Labelled(image_id, boxes.as_boxes(windows), np.zeros_like(negative), negative)


TWINS = [[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 6.9], [40, 40, 50, 50]]  # IoU 0.7 and 0.69


def test_of_two_negatives_that_overlap_by_more_one_is_dropped():
    everyone = np.ones((4, 1))
    # 0.7 is not more than 0.7; the second and third share 6.9/7
    assert overlap.spread(made(TWINS[:2], everyone[:2]), 0.7, 0).all()
    for seed in range(20):
        kept = overlap.spread(made(TWINS, everyone), 0.7, seed)[:, 0].tolist()
        assert kept in ([True, True, False, True], [True, False, True, True])
    seen = {tuple(overlap.spread(made(TWINS, everyone), 0.7, seed)[:, 0]) for seed in range(20)}
    assert len(seen) == 2  # the seed decides which


def test_only_negatives_of_the_class_drop_each_other():
    negative = [[1, 0], [1, 1], [0, 1], [1, 1]]
    kept = overlap.spread(made(TWINS, negative), 0.7, 0)
    assert kept[:, 0].tolist() == [True, True, False, True]
    assert kept[:, 1].tolist() != [False, True, True, True]
    assert not (kept & ~np.array(negative, bool)).any()


def test_classes_with_equal_negatives_keep_equal_ones():
    random = np.random.default_rng(0)
    corners = random.integers(0, 20, (40, 2))
    windows = np.hstack([corners, corners + random.integers(5, 9, (40, 2))])
    one, other = random.random((2, 40)) < 0.7
    negative = np.stack([one, other, one, other], axis=1)
    kept = overlap.spread(made(windows, negative), 0.5, 3)
    assert (kept[:, 0] == kept[:, 2]).all()
    assert (kept[:, 1] == kept[:, 3]).all()
    alone = overlap.spread(made(windows, negative[:, 1:2]), 0.5, 3)
    assert (kept[:, 1] == alone[:, 0]).all()


@given(st.integers(0, 2**31), st.sampled_from([0.3, 0.5, 0.7]))
def test_what_is_kept_is_spread_and_what_is_dropped_overlaps_it(seed, limit):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 15, (30, 2))
    windows = np.hstack([corners, corners + random.integers(4, 9, (30, 2))])
    negative = random.random((30, 2)) < 0.8
    kept = overlap.spread(made(windows, negative), limit, seed)
    overlaps = boxes.iou(windows, windows) - np.eye(30)
    for k in range(2):
        assert (overlaps[np.ix_(kept[:, k], kept[:, k])] <= limit).all()
        dropped = negative[:, k] & ~kept[:, k]
        assert (overlaps[np.ix_(dropped, kept[:, k])].max(axis=1, initial=0) > limit).all()


def test_choices_depend_on_image_and_seed_alone():
    windows = np.array([[k, 0, k + 1, 1] for k in range(400)])
    first = made(windows, np.ones((400, 1)))
    taken = sampling.drawn(first, 0.25, 7, 1)
    assert (taken == sampling.drawn(first, 0.25, 7, 1)).all()
    assert 60 < taken.sum() < 140
    other_image = made(windows, np.ones((400, 1)), "b")
    assert (taken != sampling.drawn(other_image, 0.25, 7, 1)).any()
    assert (taken != sampling.drawn(first, 0.25, 8, 1)).any()
    assert (taken != sampling.drawn(first, 0.25, 7, 2)).any()


def test_everything_and_nothing_may_be_drawn():
    first = made(WINDOWS, np.ones((4, 1)))
    assert sampling.drawn(first, 1.0, 0, 1).all()
    assert not sampling.drawn(first, 0.0, 0, 1).any()


def test_the_numbers_of_an_image_are_pinned():
    # sha256("a")[:8] and the seeds: the same on every machine, or shards would disagree
    draws = sampling.image_random("a", 0, 1).integers(0, 1000, 3)
    assert (
        draws.tolist()
        == np.random.default_rng(
            [int.from_bytes(bytes.fromhex("ca978112ca1bbdca"), "little"), 0, 1]
        )
        .integers(0, 1000, 3)
        .tolist()
    )
    assert sampling.image_random("a", -1).random() == sampling.image_random("a", 2**32 - 1).random()


def hardest(scores, candidates, cached, duplicate_iou, limit, windows=TWINS):
    """Windows taken of each class, given a column of each table for each class."""
    columns = [np.array(table).T for table in (candidates, scores, cached)]
    taken = overlap.hardest(
        columns[0].astype(bool),
        columns[1].astype(np.float32),
        boxes.as_boxes(windows),
        columns[2].astype(bool),
        duplicate_iou,
        limit,
    )
    return [np.flatnonzero(own).tolist() for own in taken.T]


EVERYONE, NOBODY = [1, 1, 1, 1], [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("duplicate_iou", "limit", "chosen"),
    [
        (0.7, 9, [0, 2, 3]),  # the second falls to the third
        (0.7, 2, [2, 3]),
        (None, 9, [0, 1, 2, 3]),
        (None, 3, [1, 2, 3]),
        (0.5, 9, [2, 3]),  # the first shares 0.69 with the third
        (None, 1, [2]),
    ],
)
def test_the_hardest_of_a_class(duplicate_iou, limit, chosen):
    scores = [-0.9, 0.1, 0.8, 0.3]
    assert hardest([scores], [EVERYONE], [NOBODY], duplicate_iou, limit) == [chosen]


def test_each_class_has_its_own_order_and_limit():
    scores = [[-0.9, 0.1, 0.8, 0.3], [0.9, 0.8, 0.1, -0.9], [0, 0, 0, 0]]
    candidates = [EVERYONE, [1, 1, 0, 1], NOBODY]
    assert hardest(scores, candidates, [NOBODY] * 3, 0.7, 2) == [[2, 3], [0, 1], []]


def test_candidates_that_repeat_a_cached_window_are_not_taken():
    scores, candidates = [[-0.9, 0.1, 0.8, 0.3]], [[0, 1, 0, 1]]
    assert hardest(scores, candidates, [[0, 0, 1, 0]], 0.7, 9) == [[3]]
    assert hardest(scores, candidates, [[0, 0, 1, 0]], None, 9) == [[1, 3]]
    # another class holds the twin: no matter
    assert hardest(scores * 2, candidates * 2, [NOBODY, [0, 0, 1, 0]], 0.7, 9) == [[1, 3], [3]]


def test_of_equal_scores_the_earlier_windows_are_taken():
    assert hardest([[0] * 4], [EVERYONE], [NOBODY], None, 3, WINDOWS) == [[0, 1, 2]]


@given(st.integers(0, 2**31), st.sampled_from([0.3, 0.7]), st.integers(1, 9))
def test_the_hardest_by_the_rule_told_plainly(seed, limit_iou, limit):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 15, (25, 2))
    windows = np.hstack([corners, corners + random.integers(4, 9, (25, 2))])
    scores = random.integers(-3, 3, (2, 25))
    candidates, cached = random.random((2, 2, 25)) < [[[0.7]], [[0.1]]]
    expected = []
    for k in (0, 1):
        held, new = np.flatnonzero(cached[k]).tolist(), []
        for row in sorted(np.flatnonzero(candidates[k]), key=lambda row: -scores[k, row]):
            overlaps = boxes.iou(windows[[row]], windows[[*held, *new]])
            if len(new) < limit and not (overlaps > limit_iou).any():
                new.append(row)
        expected.append(sorted(new))
    assert hardest(scores, candidates, cached, limit_iou, limit, windows) == expected


@given(st.integers(0, 2**31), st.sampled_from([0.3, 0.7]))
def test_asked_about_some_windows_the_seeded_rule_answers_the_same(seed, limit):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 15, (30, 2))
    windows = np.hstack([corners, corners + random.integers(4, 9, (30, 2))])
    first = made(windows, random.random((30, 3)) < 0.8)
    wanted = random.random((30, 3)) < 0.1
    found = overlap.spread(first, limit, seed, wanted)
    assert (found == (overlap.spread(first, limit, seed) & wanted)).all()


@given(st.integers(0, 2**31))
def test_the_seeded_rule_told_plainly(seed):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 15, (30, 2))
    windows = np.hstack([corners, corners + random.integers(4, 9, (30, 2))])
    first = made(windows, random.random((30, 2)) < 0.8)
    kept = overlap.spread(first, 0.5, seed)
    order = sampling.image_random("a", seed).permutation(30)
    for k in (0, 1):
        held = []
        for row in order[first.negative[order, k]].tolist():
            if not (boxes.iou(windows[[row]], windows[held]) > 0.5).any():
                held.append(row)
        assert sorted(held) == np.flatnonzero(kept[:, k]).tolist()


def test_windows_and_classes_with_a_flag():
    flags = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1]], bool)
    assert sampling.windows_of(flags).tolist() == [1, 3]
    assert sampling.by_class(flags).tolist() == [1, 0, 2]
    assert sampling.windows_of(flags[:1]).tolist() == []
