"""Files that are whole or absent."""

import hashlib
from contextlib import suppress

import pytest

from pipeline.store.files import file_sha256, read_json, write_json, written_aside


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "file"
    with written_aside(path) as aside:
        aside.write_bytes(b"whole")
        assert not path.exists()
        assert aside.parent == path.parent
    assert path.read_bytes() == b"whole"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_failure_keeps_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with suppress(KeyError), written_aside(path) as aside:
        aside.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_two_writers_never_share_a_file(tmp_path):
    with written_aside(tmp_path / "x") as one, written_aside(tmp_path / "x") as other:
        assert one != other
        one.write_bytes(b"1")
        other.write_bytes(b"2")
    assert (tmp_path / "x").read_bytes() == b"1"  # the one that ended last
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_equal_contents_give_equal_json(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [2.5, None, "ü"]})
    write_json(tmp_path / "b", {"y": [2.5, None, "ü"], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": [2.5, None, "ü"]}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", None])
def test_what_cannot_be_read_was_never_made(tmp_path, content):
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    assert read_json(tmp_path / "a") is None
    assert read_json(tmp_path / "a" / "b") is None


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"7" * 5_000_011)  # more than one block
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"7" * 5_000_011).hexdigest()
