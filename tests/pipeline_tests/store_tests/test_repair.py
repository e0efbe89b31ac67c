"""What can be put right from what is there; the rest is named, and made again."""

import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.store.records import read_record
from tests import small_store

IDS = list(small_store.SHARDS)


@pytest.fixture(params=[False, True], ids=["windows", "maps"])
def maps(request):
    return request.param


@pytest.fixture
def held(root, maps):
    small_store.make(root, maps)
    return store.open(root)


def test_a_whole_store_is_left_alone(held, files):
    before, times = files(held.root), held.root.listing("records")
    assert store.fsck(held.root) == []
    assert files(held.root) == before
    assert held.root.listing("records") == times


@pytest.mark.parametrize("manifest", ["whole", "lost"])
@pytest.mark.parametrize("torn", [None, b"", b'{"shard_id": "0'])
def test_records_are_rebuilt_from_the_rows(held, files, torn, manifest):
    before = files(held.root)
    for shard_id in IDS:
        held.root.remove(f"records/{shard_id}.json")
        if torn is not None:
            held.root.replace(f"records/{shard_id}.json", torn)
    if manifest == "lost":
        held.root.replace("manifest.json", b"")
    problem = "is missing" if torn is None else "cannot be read"
    assert store.fsck(held.root) == [
        *(f"shard {k}: its record {problem}; the record is rebuilt from the rows" for k in IDS),
        *(["manifest.json is rebuilt from 2 records"] if manifest == "lost" else []),
    ]
    assert files(held.root) == before


@pytest.mark.parametrize("content", [None, b"", b'{"format": 3, "sha'])
def test_a_manifest_is_rebuilt_from_records(held, files, content):
    before = files(held.root)
    held.root.remove("manifest.json")
    if content is not None:
        held.root.replace("manifest.json", content)
    assert store.fsck(held.root) == ["manifest.json is rebuilt from 2 records"]
    assert files(held.root) == before


@pytest.mark.parametrize("damage", ["missing", "short", "flipped"])
@pytest.mark.parametrize("record", ["whole", "lost"])
def test_a_damaged_shard_is_made_again_by_the_next_run(held, files, maps, damage, record):
    """The way from a fault to a whole store: `spp fsck`, and the recipe."""
    root, before = held.root, files(held.root)
    name = held.shards[1].name("maps" if maps else "shards")
    data = before[name]
    root.remove(name)
    if damage == "short":
        root.replace(name, data[:-1])
    if damage == "flipped":
        root.replace(name, data[:50] + bytes([data[50] ^ 8]) + data[51:])
    if record == "lost":
        root.remove("records/00001.json")
    assert held.verify() != []
    said = store.fsck(root)
    assert said[0].startswith("shard 00001: ")
    assert said[0].endswith("and it must be made again")
    assert said[1:] == [
        "manifest.json is dropped, for the store is not whole",
        "1 of 2 shards must be made again",
        "run the recipe again: it makes what is missing, and no more",
    ]
    assert store.sound(root) == f"{root} is not finished: run its recipe again"
    assert store.committed(root) == {"00000"}
    first = root.listing("records")["00000.json"]
    assert small_store.make(root, maps) == ["00001"]
    assert root.listing("records")["00000.json"] == first
    assert files(root) == before
    assert store.fsck(root) == store.open(root).verify() == []


@pytest.mark.parametrize("name", ["store.json", "images.parquet", "objects.parquet"])
def test_labels_and_settings_that_are_damaged(held, files, maps, name):
    before = files(held.root)
    for damaged in (None, before[name][:-1], before[name][:-1] + b"?"):
        held.root.remove(name)
        if damaged is not None:
            held.root.replace(name, damaged)
        said = store.fsck(held.root)
        assert said[0] == "manifest.json is dropped, for the store is not whole"
        assert said[1].startswith(f"{name} ")
        assert store.sound(held.root) is not None
        # A run writes labels anew; settings that can be read, but say something else, it refuses.
        if name == "store.json":
            held.root.remove(name)
        assert small_store.make(held.root, maps) == []
        assert files(held.root) == before


@pytest.mark.parametrize("name", ["store.json", "images.parquet", "objects.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_without_a_manifest_labels_and_settings_must_be_readable(root, files, name, content):
    small_store.make(root)
    before = files(root)
    root.remove("manifest.json")
    root.remove(name)
    if content is not None:
        root.replace(name, content)
    first, *rest = store.fsck(root)
    assert first.startswith(f"{name} cannot be read")
    assert rest == ["run the recipe again: it makes what is missing, and no more"]
    assert small_store.make(root) == []
    assert files(root) == before


def test_an_unfinished_store_gets_no_manifest(root, files):
    small_store.make(root)
    second = store.open(root).shards[1].name("shards")
    for name in ("manifest.json", "records/00001.json", second):
        root.remove(name)
    assert store.fsck(root) == [
        "images.parquet lists 2 images, such as image c, which are in no shard",
        "run the recipe again: it makes what is missing, and no more",
    ]
    assert root.read("manifest.json") is None


def test_a_record_that_was_changed_is_put_right(root, files):
    small_store.make(root)
    before = files(root)
    changed = before["records/00000.json"].replace(b'"made_from": "test"', b'"made_from": "tent"')
    root.replace("records/00000.json", changed)
    says = "its record is not what the manifest says; the record is rebuilt from the rows"
    assert store.fsck(root) == [f"shard 00000: {says}"]
    assert files(root) == before


def test_of_two_attempts_the_one_that_the_manifest_names_is_rebuilt(root, files):
    """The other one's rows, which would do as well, stay garbage."""
    small_store.write_shard(root, "00000", False, flavour=1)
    other = read_record(root, "00000")
    rows = root.read(other.name("shards"))
    root.remove("records/00000.json")
    root.remove(other.name("shards"))
    small_store.make(root)
    before = files(root)
    root.replace(other.name("shards"), rows)
    root.remove("records/00000.json")
    assert store.fsck(root) == [
        "shard 00000: its record is missing; the record is rebuilt from the rows"
    ]
    assert files(root) == before | {other.name("shards"): rows}


def test_rows_under_another_name_are_not_believed(root, files):
    """A file's name says what its content is; another content is no attempt of ours."""
    small_store.make(root)
    name = store.open(root).shards[0].name("shards")
    data = root.read(name)
    root.remove("records/00000.json")
    root.remove("manifest.json")
    root.remove(name)
    root.replace("shards/00000-0123456789ab.parquet", data)
    assert "shard 00000: its record is missing; and it must be made again" in store.fsck(root)
    assert store.committed(root) == {"00001"}


def test_what_is_no_store(root):
    for check in (store.fsck, store.gc):
        with pytest.raises(InputError, match="is not a store: there is nothing in it"):
            check(root)
