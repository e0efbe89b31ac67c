"""Training rows of a shard: what each pass adds, and who learns from what."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.cache import (
    CacheWriter,
    members_path,
    read_members,
    read_vectors,
    vectors_path,
)
from pipeline.store import VectorSpec
from pipeline.store.blocks import block_of

SPEC = VectorSpec(2, "float16")
ROWS = 7
# Numbers of row r: (r, -r); the only zeros are row 0's.
HELD = np.stack([np.arange(ROWS), -np.arange(ROWS)], axis=1)


def flags(rows, classes=2):
    """`{row: class}` as `[rows classes]`."""
    found = np.zeros((ROWS, classes), bool)
    for row, own in rows.items():
        found[row, own] = True
    return found


def write(caches, positive, negative, spec=SPEC, cut=4):
    """One pass over a shard of two images, the second of which begins at `cut`."""
    held = block_of(HELD.astype(spec.dtype), spec)
    positive, negative = flags(positive), flags(negative)
    used = positive | negative
    with CacheWriter(caches, "s", spec, ROWS) as writer:
        if len(caches) > 1:
            writer.keep(read_members(caches[-2], "s", 2))
        for part in (slice(0, cut), slice(cut, ROWS)):
            writer.add(part.start, used[part], held[part])
        writer.commit(positive, negative)


@pytest.fixture
def two_passes(tmp_path):
    """Class 0 has row 1 and learns against 4; then 4 is evicted, and 2 and 5 are gained."""
    caches = [tmp_path / "0", tmp_path / "1"]
    write(caches[:1], {1: 0}, {4: [0, 1]})
    write(caches, {1: 0}, {2: 1, 5: [0, 1]})
    return caches


def test_members_say_who_learns_from_what_and_where_it_lies(two_passes):
    first, second = (read_members(folder, "s", 2) for folder in two_passes)
    assert first.row.tolist() == [1, 4]
    assert first.part.tolist() == [0, 0]
    assert first.positive.tolist() == [[True, False], [False, False]]
    assert first.negative.tolist() == [[False, False], [True, True]]
    assert second.row.tolist() == [1, 2, 4, 5]
    assert second.part.tolist() == [0, 1, 0, 1]
    assert np.argwhere(second.positive).tolist() == [[0, 0]]
    assert np.argwhere(second.negative).tolist() == [[1, 1], [3, 0], [3, 1]]


def test_a_pass_writes_what_is_new_and_nothing_else(two_passes):
    rows = [pq.read_table(vectors_path(folder, "s"))["row"].to_pylist() for folder in two_passes]
    assert rows == [[1, 4], [2, 5]]


def test_a_row_that_was_evicted_is_not_written_again(two_passes):
    caches = [*two_passes, two_passes[0].parent / "2"]
    write(caches, {1: 0}, {4: 1, 6: 1})
    assert pq.read_table(vectors_path(caches[2], "s"))["row"].to_pylist() == [6]
    members = read_members(caches[2], "s", 2)
    assert dict(zip(members.row.tolist(), members.part.tolist(), strict=True)) == {
        1: 0,
        2: 1,
        4: 0,
        5: 1,
        6: 2,
    }


@pytest.mark.parametrize("wanted", [[1, 2, 4, 5], [2, 5], [4], []])
def test_vectors_come_back_by_row_whatever_pass_wrote_them(two_passes, wanted):
    members = read_members(two_passes[1], "s", 2)
    places = np.searchsorted(members.row, wanted)
    out = np.empty((len(wanted), 2), np.float16)
    read_vectors(two_passes, "s", members.row[places], members.part[places], out)
    assert out.tolist() == [[row, -row] for row in wanted]


def test_numbers_that_are_not_zero_are_counted(tmp_path):
    write([tmp_path], {0: 0}, {3: 1})
    assert read_members(tmp_path, "s", 2).nonzeros.tolist() == [0, 2]


@pytest.mark.parametrize("groups", [1, 10**6])
def test_vectors_of_several_row_groups(tmp_path, monkeypatch, groups):
    monkeypatch.setattr("pipeline.learning.cache.ROW_GROUP_BYTES", groups)
    write([tmp_path], {1: 0, 5: 0}, {3: 0, 6: 1})
    with pq.ParquetFile(vectors_path(tmp_path, "s")) as file:
        assert file.num_row_groups == (2 if groups == 1 else 1)
    wanted = np.array([1, 5, 6])
    out = np.empty((3, 2), np.float16)
    read_vectors([tmp_path], "s", wanted, np.zeros(3, int), out)
    assert out[:, 0].tolist() == [1, 5, 6]


def test_a_shard_that_nobody_learns_from(tmp_path):
    write([tmp_path], {}, {})
    members = read_members(tmp_path, "s", 2)
    assert members.row.shape == (0,)
    assert members.positive.shape == members.negative.shape == (0, 2)
    read_vectors([tmp_path], "s", members.row, members.part, np.empty((0, 2), np.float16))


@pytest.mark.parametrize("layout", ["binary", "list"])
@given(st.integers(1, 21), st.integers(0, 2**31))
def test_any_number_of_classes(tmp_path_factory, layout, classes, seed):
    folder = tmp_path_factory.mktemp("cache")
    random = np.random.default_rng(seed)
    positive, negative = random.random((2, 12, classes)) < 0.2
    used = (positive | negative).any(axis=1)
    held = np.arange(24, dtype=np.float32).reshape(12, 2)
    with CacheWriter([folder], "s", VectorSpec(2, "float32", layout), 12) as writer:
        writer.add(0, positive | negative, block_of(held, VectorSpec(2, "float32")))
        writer.commit(positive, negative)
    members = read_members(folder, "s", classes)
    assert members.row.tolist() == np.flatnonzero(used).tolist()
    assert (members.positive == positive[used]).all()
    assert (members.negative == negative[used]).all()
    out = np.empty((len(members.row), 2), np.float32)
    read_vectors([folder], "s", members.row, members.part, out)
    assert (out == held[used]).all()


def test_equal_passes_are_equal_files(tmp_path):
    for name in ("a", "b"):
        write([tmp_path / name], {1: 0}, {4: 1})
    for path in (vectors_path, members_path):
        one, other = (path(tmp_path / name, "s").read_bytes() for name in ("a", "b"))
        assert one == other


def test_a_failure_leaves_no_cache(tmp_path):
    def fail():
        with CacheWriter([tmp_path], "s", SPEC, ROWS) as writer:
            writer.add(0, np.ones((ROWS, 2), bool), block_of(HELD.astype(np.float16), SPEC))
            raise KeyError("torn")

    with pytest.raises(KeyError, match="torn"):
        fail()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_killed_between_its_two_files_a_pass_runs_again(two_passes, tmp_path):
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    members_path(two_passes[1], "s").unlink()
    write(two_passes, {1: 0}, {2: 1, 5: [0, 1]})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == whole


def test_members_appear_after_the_vectors_they_name(tmp_path, monkeypatch):
    renamed = []
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda path, to: (renamed.append(to.name), rename(path, to))[1]
    )
    write([tmp_path], {1: 0}, {4: 1})
    assert renamed == ["s.vectors.parquet", "s.members.parquet"]
