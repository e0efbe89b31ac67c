"""A disk that fails, is full or writes half: an error, nothing half-done, and a run that heals."""

import errno
import os

import pytest

from pipeline import store
from pipeline.store import writing
from pipeline.store.place import place
from tests import faults, small_store


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    root = place(tmp_path_factory.mktemp("undisturbed") / "store")
    small_store.make(root, maps=True)
    return {
        f"{folder}/{name}".lstrip("/"): root.read(f"{folder}/{name}".lstrip("/"))
        for folder in ("", "shards", "maps", "records")
        for name in root.listing(folder)
    }


def heals(root, files, expected):
    """Nothing half-done lies there, and run again the store is as if nothing had been."""
    records = root.listing("records")
    done = store.committed(root)
    assert all(".tmp." not in name for name in files(root))
    assert set(small_store.make(root, maps=True)) == set(small_store.SHARDS) - done
    assert files(root) == expected
    after = root.listing("records")
    assert all(after[name] == each for name, each in records.items())


STEPS = ["claim", "write_labels", "write_rows", "check", "bring_maps", "bring_rows"]
CASES = [
    *(
        (step, do)
        for step in [*STEPS, "create_record", "write_manifest"]
        for do in ("eio", "enospc")
    ),
    ("finish", "short_write"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("step", "do"), CASES)
def test_an_error_at_each_step(root, files, expected, step, do, when):
    nth = 1 if step in ("claim", "write_labels", "write_manifest") else 2
    script = [{"step": step, "nth": nth, "do": do, "when": when}]
    with faults.installed(script), pytest.raises(OSError, match=r".+") as raised:
        small_store.make(root, maps=True)
    if do == "short_write":
        assert "bytes were written" in str(raised.value)
    else:
        assert raised.value.errno == getattr(errno, do.upper())
    heals(root, files, expected)


@pytest.mark.parametrize("step", ["claim", "create_record", "write_manifest"])
def test_a_record_of_which_half_is_written(tmp_path, files, expected, step):
    root = place(tmp_path)
    with (
        faults.installed([{"step": step, "do": "short_write"}]),
        pytest.raises(OSError, match=r"I/O|Input"),
    ):
        small_store.make(root, maps=True)
    heals(root, files, expected)


@pytest.mark.parametrize(
    "step", ["claim", "write_labels", "bring_maps", "bring_rows", "create_record"]
)
def test_a_name_that_cannot_be_given(tmp_path, files, expected, step):
    root = place(tmp_path)
    with (
        faults.installed([{"step": step, "do": "fail_rename"}]),
        pytest.raises(OSError, match=r"I/O|Input"),
    ):
        small_store.make(root, maps=True)
    heals(root, files, expected)


def test_an_error_at_each_change_of_the_disk(tmp_path, files, expected):
    with faults.installed([]) as counted:
        small_store.make(place(tmp_path / "counted"), maps=True)
    for number in range(1, counted.calls["disk"] + 1):
        root = place(tmp_path / f"{number}")
        fault = {"step": "disk", "nth": number, "do": "eio"}
        with faults.installed([fault]), pytest.raises(OSError, match=r"I/O|Input"):
            small_store.make(root, maps=True)
        small_store.make(root, maps=True)
        held = files(root)
        assert {name: held[name] for name in expected} == expected
        # What could not be unlinked is left, and found.
        rest = set(held) - set(expected)
        assert {each.name for each in store.gc(root, older_than_s=-60)} == rest


def test_no_room_for_the_rows(root, files, monkeypatch, expected):
    """The disk, or the spool on the way to an object store, is full while rows are written."""

    class Full:
        def __init__(self, sink):
            self._sink = sink

        def __getattr__(self, name):
            return getattr(self._sink, name)

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    enter = writing.GrowingFile.__enter__

    def full(self):
        growing = enter(self)
        growing.sink = Full(growing.sink)
        return growing

    with monkeypatch.context() as patch:
        patch.setattr(writing.GrowingFile, "__enter__", full)
        with pytest.raises(OSError, match=r".+") as raised:
            small_store.make(root, maps=True)
    assert raised.value.errno == errno.ENOSPC
    assert ("set TMPDIR to a folder with room" in str(raised.value)) == root.far
    heals(root, files, expected)


def test_a_fault_that_happens_once_wherever_it_is_looked_for(tmp_path):
    """As for workers that are started anew, and would die of the same script for ever."""
    script = [{"step": "create_record", "do": "eio", "once": str(tmp_path / "happened")}]
    root = place(tmp_path / "store")
    with faults.installed(script), pytest.raises(OSError, match=r"I/O|Input"):
        small_store.make(root)
    with faults.installed(script) as again:
        assert small_store.make(root) == list(small_store.SHARDS)
    assert again.calls["create_record"] == 2
