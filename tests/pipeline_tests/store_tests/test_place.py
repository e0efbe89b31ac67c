"""A place is a folder or an object store, and the same may be asked of both."""

import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.store import local
from pipeline.store.local import LocalFolder
from pipeline.store.objects import ObjectStore
from pipeline.store.place import place, probe


def test_a_file_is_created_once(root):
    assert root.read("records/a") is None
    assert root.create("records/a", b"first")
    assert not root.create("records/a", b"second")
    assert root.read("records/a") == b"first"
    root.replace("records/a", b"third")
    assert root.read("records/a") == b"third"
    root.remove("records/a")
    root.remove("records/a")
    root.remove("nowhere/b")
    assert root.read("records/a") is None
    assert root.create("records/a", b"")
    assert root.read("records/a") == b""


def test_of_many_who_create_one_wins(root):
    start = threading.Barrier(8)

    def create(number):
        start.wait()
        return root.create("record", f"{number}".encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert root.read("record") == f"{won.index(True)}".encode()
    assert list(root.listing("")) == ["record"]


def test_a_listing_has_names_sizes_and_times_of_this_folder_alone(root):
    assert root.listing("") == {}
    for name in ("shards/b", "shards/a", "shards/deep/c", "shardsd"):
        root.replace(name, name.encode())
    held = root.listing("shards")
    assert {name: each.bytes for name, each in held.items()} == {"a": 8, "b": 8}
    assert list(held) == ["a", "b"]
    assert list(root.listing("")) == ["shardsd"]
    assert list((root / "shards").listing("deep")) == ["c"]
    newest = held["b"].modified_s
    assert abs(newest - max(each.modified_s for each in held.values())) < 60
    assert newest > 1_700_000_000  # seconds, and of this decade
    one = root.look("shards/b")
    assert (one.bytes, abs(one.modified_s - newest) < 2) == (8, True)
    assert root.look("shards/c") is root.look("nowhere/c") is root.look("shards/b/c") is None


def test_a_large_file_is_written_here_and_brought(root):
    data = bytes(range(256)) * 4096 * 41  # 43 MB: an upload in parts
    with root.spool("shards/x") as aside:
        aside.write_bytes(data)
        assert root.read("shards/x") is None
        root.bring(aside, "shards/x")
    assert root.listing("shards")["x"].bytes == len(data)
    assert list(root.listing("shards")) == ["x"]
    assert root.digest("shards/x") == hashlib.sha256(data).hexdigest()
    with root.open("shards/x") as file:
        file.seek(20_000_001)
        assert file.read(7) == data[20_000_001:20_000_008]
        assert file.size() == len(data)
        file.seek(len(data) - 3)
        assert file.read() == data[-3:]


def test_what_is_not_brought_leaves_nothing(root):
    with suppress(KeyError), root.spool("shards/x") as aside:
        aside.write_bytes(b"half")
        raise KeyError
    assert root.listing("shards") == {}
    with root.spool("shards/y"):
        pass
    assert root.listing("shards") == {}


def test_two_spools_never_share_a_file(root):
    with root.spool("x") as one, root.spool("x") as other:
        one.write_bytes(b"1")
        other.write_bytes(b"2")
        root.bring(other, "x")
        root.bring(one, "x")
    assert root.read("x") == b"1"  # the one that ended last


def test_what_is_not_there(root):
    with pytest.raises(FileNotFoundError):
        root.open("shards/x")
    assert root.digest("shards/x") is None
    root.settle("shards")


def test_an_empty_file_can_be_opened(root):
    root.replace("x", b"")
    with root.open("x") as file:
        assert file.read() == b""
    assert root.digest("x") == hashlib.sha256(b"").hexdigest()


def test_a_place_travels_and_is_compared(root):
    root.replace("a", b"1")
    sent = pickle.loads(pickle.dumps(root))
    assert sent == root
    assert {sent, root} == {root}
    assert sent.read("a") == b"1"
    assert sent / "b" != root
    assert str(root / "b") == f"{root}/b"


def test_each_answers_in_order_and_ends_when_it_fails(root):
    assert list(root.each(lambda number: number * 2, range(1000))) == list(range(0, 2000, 2))
    with pytest.raises(ZeroDivisionError):
        list(root.each(lambda number: 1 // (7 - number), range(1000)))


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("runs/store", LocalFolder(Path("runs/store"))),
        (Path("/a/b"), LocalFolder(Path("/a/b"))),
        ("file:///a/with%20space", LocalFolder(Path("/a/with space"))),
        ("s3://bucket/a/", ObjectStore("s3://bucket/a")),
        ("gs://bucket", ObjectStore("gs://bucket")),
        (ObjectStore("s3://bucket/a"), ObjectStore("s3://bucket/a")),
    ],
)
def test_what_a_person_types(typed, found):
    assert place(typed) == found
    assert str(place("runs/store")) == "runs/store"


def test_a_place_that_cannot_create_is_refused():
    with pytest.raises(InputError, match=r"http://x/y: a store lies in a folder, or on s3://, gs"):
        place("http://x/y")


def test_memory_is_an_object_store_too():
    root = place("memory://test_place/store")
    assert root.create("records/a", b"1")
    assert not root.create("records/a", b"2")
    assert list(root.listing("records")) == ["a"]
    root.remove("records/a")
    root.remove("records/a")
    assert root.listing("records") == {}


def test_a_probe_leaves_nothing(root):
    probe(root)
    assert root.listing("") == {}


def test_a_place_that_lets_a_file_be_created_twice_is_no_place_for_shards(root, monkeypatch):
    """As an object store that knows nothing of the condition, and just writes."""
    monkeypatch.setattr(type(root), "create", lambda *asked: type(root).replace(*asked) or True)
    with pytest.raises(InputError, match=r"lets a file be created twice, .*honours If-None-Match"):
        probe(root)
    assert root.listing("") == {}


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/stores cannot be written to .*: choose another"):
        probe(place(tmp_path / "file" / "stores"))


def test_a_file_system_without_links_still_has_whole_files(tmp_path, monkeypatch):
    def none(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(local.os, "link", none)
    root = place(tmp_path)
    assert root.create("a", b"1")
    assert not root.create("a", b"2")
    assert root.read("a") == b"1"
    assert list(root.listing("")) == ["a"]


def test_other_troubles_with_links_are_heard_of(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local.os, "link", broken)
    with pytest.raises(OSError, match="Input/output"):
        place(tmp_path).create("a", b"1")
    assert list(tmp_path.iterdir()) == []
