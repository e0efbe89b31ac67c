"""Training rows of a shard, and which classes hold them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.cache import class_rows, members, write_cache
from pipeline.store import VectorSpec

SPEC = VectorSpec(2, "float16")


def part(rows, positive, negative):
    rows = np.array(rows, np.int32)
    vectors = np.stack([rows, -rows], axis=1).astype(np.float16)
    return rows, np.array(positive, bool), np.array(negative, bool), vectors


PARTS = [
    part([1, 4], [[1, 0], [0, 0]], [[0, 1], [1, 1]]),
    part([], np.zeros((0, 2)), np.zeros((0, 2))),
    part([5], [[0, 1]], [[0, 0]]),
]


def read(folder, shards, classes, k):
    found = [
        (int(vector[0]), bool(flag))
        for vectors, positive in class_rows(folder, shards, classes, k)
        for vector, flag in zip(vectors, positive, strict=True)
    ]
    return found


def test_rows_come_back_by_class(tmp_path):
    write_cache(tmp_path, "s", SPEC, 2, PARTS)
    assert read(tmp_path, ["s"], 2, 0) == [(1, True), (4, False)]
    assert read(tmp_path, ["s"], 2, 1) == [(1, False), (4, False), (5, True)]


def test_members_are_marked_by_row(tmp_path):
    write_cache(tmp_path, "s", SPEC, 2, PARTS)
    positive, negative = members(tmp_path, "s", 7, 2)
    assert np.argwhere(positive).tolist() == [[1, 0], [5, 1]]
    assert np.argwhere(negative).tolist() == [[1, 1], [4, 0], [4, 1]]


@pytest.mark.parametrize("parts", [[], PARTS[1:2]])
def test_a_shard_that_nobody_learns_from(tmp_path, parts):
    write_cache(tmp_path, "s", SPEC, 2, parts)
    assert read(tmp_path, ["s"], 2, 0) == []
    positive, negative = members(tmp_path, "s", 3, 2)
    assert positive.shape == negative.shape == (3, 2)
    assert not (positive | negative).any()


def test_shards_follow_each_other(tmp_path):
    write_cache(tmp_path, "s", SPEC, 2, PARTS)
    write_cache(tmp_path, "t", SPEC, 2, PARTS[2:])
    assert read(tmp_path, ["t", "s"], 2, 1) == [(5, True), (1, False), (4, False), (5, True)]


@pytest.mark.parametrize("layout", ["binary", "list"])
@given(st.integers(1, 21), st.integers(0, 2**31))
def test_any_number_of_classes(tmp_path_factory, layout, classes, seed):
    folder = tmp_path_factory.mktemp("cache")
    random = np.random.default_rng(seed)
    positive, negative = random.random((2, 6, classes)) < 0.4
    rows = np.array([0, 2, 3, 5, 7, 11], np.int32)
    vectors = np.stack([rows, rows], axis=1).astype(np.float32)
    spec = VectorSpec(2, "float32", layout)
    write_cache(folder, "s", spec, classes, [(rows, positive, negative, vectors)])
    found = members(folder, "s", 12, classes)
    assert (found[0][rows] == positive).all()
    assert (found[1][rows] == negative).all()
    assert found[0].sum() == positive.sum()
    k = classes - 1
    held = [row for row, flags in zip(rows, positive | negative, strict=True) if flags[k]]
    assert [row for row, _ in read(folder, ["s"], classes, k)] == held


def test_equal_caches_are_equal_files(tmp_path):
    for name in ("a", "b"):
        write_cache(tmp_path / name, "s", SPEC, 2, PARTS)
    one, other = (tmp_path / name / "shards/s.parquet" for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_a_failure_leaves_no_cache(tmp_path):
    def torn():
        yield PARTS[0]
        raise KeyError("torn")

    with pytest.raises(KeyError, match="torn"):
        write_cache(tmp_path, "s", SPEC, 2, torn())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
