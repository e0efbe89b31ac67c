"""One round of hard negatives over a small store, by hand."""

import numpy as np
import pytest

from pipeline import boxes
from pipeline.config import Mining, Svm
from pipeline.datasets.records import Object
from pipeline.learning import (
    Classifiers,
    evict_easy,
    overlap,
    sampling,
    select_hard,
)
from pipeline.learning.cache import CacheWriter, read_members
from pipeline.learning.mining import MiningSpec, mine_shard
from pipeline.store.blocks import block_of

CLASSES = ("cat", "dog")
IDENTITY = Classifiers(CLASSES, np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0)
CAT = Object("cat", (0.0, 50.0, 10.0, 60.0))
SQUARES = [[12 * k, 0, 12 * k + 10, 10] for k in range(6)]  # none touches another


def test_hard_and_easy_are_strict():
    scores = [[-1.0001, -1.0], [-1.2, -1.2001]]
    assert select_hard(scores).tolist() == [[False, True], [False, False]]
    assert evict_easy(scores).tolist() == [[False, False], [False, True]]
    single = np.array([-1.0001, -1.2], np.float32)
    assert not select_hard(single).any()
    assert not evict_easy(single).any()
    assert select_hard([1, 2, 3], 2).tolist() == [False, False, True]
    assert evict_easy([], -1).tolist() == []


# --- one round, by hand --------------------------------------------------------------------------


@pytest.fixture
def one_round(negatives, make_store, made, tmp_path):
    def mine(scores, before=((), ()), windows=SQUARES, seed=0, **mining):
        """Mine one image whose windows' vectors are their scores for cat and dog; last, a cat."""
        image = made([*scores, (0.5, 0.5)], windows, (CAT,))
        held = make_store(tmp_path / "store", [{"a": image}], 2)
        flags = np.array([[row in rows for rows in before] for row in range(len(held))])
        caches = [tmp_path / "before", tmp_path / "after"]
        with CacheWriter(caches[:1], "00000", held.spec, len(held)) as writer:
            writer.add(0, flags, block_of(np.zeros((len(held), 2), np.float32), held.spec))
            writer.commit(np.zeros_like(flags), flags)
        spec = MiningSpec(held, CLASSES, Svm(), Mining(**mining), seed)
        stats = mine_shard(spec, "00000", caches, IDENTITY)
        after = [[row for _, row in rows] for rows in negatives(tmp_path / "after", held)]
        assert stats.negatives == [len(rows) for rows in after]
        return stats, after

    return mine


def test_one_round_by_hand(one_round):
    scores = [
        (-0.4, -3.0),  # hard for cat
        (-1.0001, -1.0),  # just not hard for cat, hard for dog
        (-1.5, -1.3),  # in both caches, and easy now
        (-1.1, -1.2),  # in both caches, and neither hard nor easy: stays
        (2.0, 0.1),  # in cat's cache already; hard for dog
        (-9.0, -9.0),
    ]
    stats, after = one_round(scores, before=([2, 3, 4], [2, 3]))
    # the cat itself, row 6, is no negative of cat and a hard one of dog
    assert after == [[0, 3, 4], [1, 3, 4, 6]]
    assert (stats.gained, stats.evicted) == ([1, 3], [1, 1])


def test_positives_stay_in_the_cache(one_round, tmp_path):
    one_round([(-5, -5)] * 6)
    members = read_members(tmp_path / "after", "00000", 2)
    assert members.row.tolist() == [6]
    assert members.positive.tolist() == [[True, False]]


def test_thresholds_come_from_the_recipe(one_round):
    scores = [(0, 0), (-0.5, 0), (-0.6, 0), (-2, 0), (-3, 0), (-4, 0)]
    _, (cat, _) = one_round(scores, ([3, 4, 5], []), hard_score=-0.55, easy_score=-2.5)
    assert cat == [0, 1, 3]


def test_a_class_takes_its_hardest_of_an_image(one_round):
    scores = [(0.1, 0), (0.3, 0), (0.2, 0), (0.5, 0), (0.4, 0), (-9, 0)]
    stats, (cat, _) = one_round(scores, ([3], []), max_per_image=2)
    assert cat == [1, 3, 4]
    assert stats.gained == [2, 2]


TWINS = [
    [0, 0, 10, 10],
    [0, 0, 10, 8],
    [30, 0, 40, 10],
    [30, 0, 40, 9],
    [50, 0, 60, 10],
    [70, 0, 80, 10],
]


def test_by_score_the_higher_of_two_twins_is_kept(one_round):
    scores = [(0.1, 0.9), (0.2, 0.8), (0.3, 0.3), (0.3, 0.3), (-9, -9), (-9, -9)]
    _, after = one_round(scores, windows=TWINS, order="score")
    assert after == [[1, 2], [0, 2, 6]]  # ties: the earlier window


def test_by_score_a_twin_of_a_cached_window_is_not_taken(one_round):
    scores = [(0.1, 0.9), (0.2, 0.8), (-9, -9), (-9, -9), (-9, -9), (-9, -9)]
    stats, (cat, _) = one_round(scores, before=([0], []), windows=TWINS, order="score")
    assert cat == [0]
    assert stats.gained[0] == 0


@pytest.mark.parametrize("seed", range(4))
def test_in_seeded_order_the_same_twin_is_kept_whatever_the_scores(one_round, seed):
    scores = [(0.1, 0.9), (0.2, 0.8), (0.3, 0.3), (0.3, 0.3), (-9, -9), (-9, -9)]
    _, after = one_round(scores, windows=TWINS, seed=seed, order="seeded")
    array = boxes.as_boxes([*TWINS, CAT.box])
    everyone = sampling.Labelled("a", array, np.zeros((7, 1), bool), np.ones((7, 1), bool))
    order = np.flatnonzero(overlap.spread(everyone, 0.7, seed)[:, 0])
    assert after[0] == [row for row in order.tolist() if row < 4]
    assert after[1] == [*after[0], 6]
