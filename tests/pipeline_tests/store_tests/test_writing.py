"""A file that is hashed and synced while it grows."""

import hashlib
import os
from contextlib import suppress

import pytest

from pipeline.store import writing
from pipeline.store.writing import BLOCK_BYTES, GrowingFile


@pytest.mark.parametrize("parts", [[], [b"x"], [b"7" * (8 * BLOCK_BYTES + 11), b"", b"8" * 99]])
def test_the_hash_is_that_of_the_file(tmp_path, parts):
    with GrowingFile(tmp_path / "file") as file:
        for part in parts:
            file.sink.write(part)
            file.grown()
        digest = file.finish()
    assert (tmp_path / "file").read_bytes() == b"".join(parts)
    assert digest == hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_long_file_is_on_its_way_to_the_disk_before_it_ends(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    monkeypatch.setattr(writing, "SYNC_BYTES", 100)
    with GrowingFile(tmp_path / "file") as file:
        for _ in range(3):
            file.sink.write(b"x" * 60)
            file.grown()
        file.finish()
    assert len(synced) == 2  # at 120 bytes, and at the end; 60 more are not worth it
    assert synced[-1] == 180


def test_a_disk_that_fails_is_heard_of(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with GrowingFile(tmp_path / "file") as file:
        file.sink.write(b"x")
        with pytest.raises(OSError, match="No space left"):
            file.finish()


def test_a_file_that_is_given_up_is_closed(tmp_path):
    with suppress(KeyError), GrowingFile(tmp_path / "file") as file:
        file.sink.write(b"x")
        file.grown()
        raise KeyError
    assert file.sink.closed
    assert file._file.closed
