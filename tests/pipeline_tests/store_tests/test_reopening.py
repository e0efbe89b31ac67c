"""A run goes on with a finished store that has lost files: only those are made again."""

import pytest

from pipeline import store
from tests import small_store


@pytest.fixture
def reads(monkeypatch, root):
    """Which data files are read, to be hashed or looked into."""
    read = []
    for method in ("digest", "open"):
        original = getattr(type(root), method)

        def noted(self, name, *more, original=original):
            read.extend([name] if name.startswith(("shards/", "maps/")) else [])
            return original(self, name, *more)

        monkeypatch.setattr(type(root), method, noted)
    return read


def test_a_whole_store_stays_as_it_is(root, files, reads):
    small_store.make(root)
    before = files(root)
    assert store.reopen(root) == []
    assert files(root) == before
    root.remove("manifest.json")
    assert store.reopen(root) == []
    assert reads == []


@pytest.mark.parametrize(("damage", "manifest"), [("missing", "whole"), ("short", "torn")])
@pytest.mark.parametrize("maps", [False, True])
def test_what_was_lost_is_made_again_and_nothing_else_is_read(
    root, files, reads, damage, manifest, maps
):
    small_store.make(root, maps)
    before = files(root)
    name = store.open(root).shards[1].name("maps" if maps else "shards")
    root.remove(name)
    if damage == "short":
        root.replace(name, before[name][:-1])
    if manifest == "torn":
        root.replace("manifest.json", before["manifest.json"][:99])
    first = root.look("records/00000.json")
    (said,) = store.reopen(root)
    assert said.startswith(f"shard 00001: {name} ")
    assert said.endswith("; its record is dropped, and it must be made again")
    assert not [each for each in reads if "/00000-" in each]
    assert root.read("manifest.json") is None
    assert small_store.make(root, maps) == ["00001"]
    assert root.look("records/00000.json") == first
    assert files(root) == before


@pytest.mark.parametrize("torn", [None, b""])
def test_a_lost_record_is_rebuilt_from_its_rows(root, files, reads, torn):
    small_store.make(root)
    before = files(root)
    root.remove("records/00001.json")
    if torn is not None:
        root.replace("records/00001.json", torn)
    (said,) = store.reopen(root)
    assert said.endswith("; the record is rebuilt from the rows")
    assert not [each for each in reads if "/00000-" in each]
    assert small_store.make(root) == []
    assert files(root) == before


@pytest.mark.parametrize("rows", ["whole", "gone"])
def test_a_record_that_is_cut_short_is_rebuilt_or_dropped(root, files, reads, rows):
    """A listing takes it for a record: only who reads all records can tell."""
    small_store.make(root)
    before, name = files(root), store.open(root).shards[1].name("shards")
    root.remove("manifest.json")
    root.replace("records/00001.json", before["records/00001.json"][:99])
    if rows == "gone":
        root.remove(name)
    assert store.reopen(root) == []
    with pytest.raises(store.DamagedShardsError) as raised:
        small_store.make(root)
    done = {
        "whole": "the record is rebuilt from the rows",
        "gone": "its record is dropped, and it must be made again",
    }
    (said,) = store.remake(root, raised.value.shard_ids)
    assert said == f"shard 00001: its record cannot be read; {done[rows]}"
    assert not [each for each in reads if "/00000-" in each]
    assert store.remake(root, ["00000"]) == []
    assert small_store.make(root) == (["00001"] if rows == "gone" else [])
    assert files(root) == before


@pytest.mark.parametrize("name", ["store.json", "images.parquet", "tables.json"])
def test_labels_are_written_again(root, files, reads, name):
    small_store.make(root)
    before = files(root)
    root.remove(name)
    assert store.reopen(root) == []
    assert reads == []
    assert root.read("manifest.json") is None
    assert small_store.make(root) == []
    assert files(root) == before


@pytest.mark.parametrize("flavour", [0, 1])
def test_what_another_run_has_made_again_meanwhile_stays(root, monkeypatch, flavour):
    """Two runs find the same shard lost; the other one is quicker, and may make other bytes."""
    small_store.make(root)
    root.remove(store.open(root).shards[1].name("shards"))
    listing, listed, made = type(root).listing, [], []

    def quicker(self, folder):
        found = listing(self, folder)
        listed.append(folder)
        if listed.count("records") == 2 and not made:  # all is listed, and nothing mended
            root.remove("records/00001.json")
            made.append(small_store.write_shard(root, "00001", False, flavour))
        return found

    monkeypatch.setattr(type(root), "listing", quicker)
    assert store.reopen(root) == []
    assert small_store.make(root) == []
    assert store.sound(root) is None
    assert [store.open(root).record("00001")] == made


def test_a_record_that_was_made_while_its_shard_was_judged_stays(root, files, monkeypatch):
    small_store.make(root)
    before = files(root)
    name = store.open(root).shards[0].name("shards")
    root.remove(name)
    look = type(root).look

    def then_made(self, asked):
        found = look(self, asked)
        if asked == name and root.read(name) is None:
            root.replace(name, before[name])
            root.replace("records/00000.json", before["records/00000.json"] + b"\n")
        return found

    monkeypatch.setattr(type(root), "look", then_made)
    store.reopen(root)
    assert store.committed(root) == {"00000", "00001"}
