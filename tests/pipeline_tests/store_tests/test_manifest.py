"""What a store was made from, what is committed, and what readers go by."""

import json

import pytest

from pipeline import store
from pipeline.datasets.records import Object
from pipeline.errors import InputError
from pipeline.store import ShardWriter, VectorSpec, claim, commit_times, committed, finish, sound
from pipeline.store.manifest import read_manifest
from tests import small_store

IDS = ["00000", "00001"]


@pytest.fixture
def images(made):
    windows = [[k, 0, k + 5, 9] for k in range(7)]
    return [
        {"a": made([[k] * 50 for k in range(7)], windows), "b": made([[1] * 50] * 7, windows)},
        {"c": made([[2] * 50] * 8, windows, (Object("cat", (1.0, 2.0, 3.0, 4.0)),))},
    ]


@pytest.fixture
def held(make_store, root, images):
    return make_store(root, images, 50)


def test_the_manifest_counts(held):
    totals = json.loads(held.root.read("manifest.json"))["totals"]
    sizes = [each.bytes for each in held.root.listing("shards").values()]
    assert totals == {
        "shards": 2,
        "rows": 22,
        "images": 3,
        "quarantined": 0,
        "bytes": sum(sizes),
        "first": held.shards[0].name("shards"),
    }
    assert held.totals.images_in == 3


def test_the_manifest_has_a_line_a_shard_and_no_ids_but_first_and_last(held):
    lines = held.root.read("manifest.json").decode().splitlines()
    assert [line.partition(",")[0] for line in lines if "0000" in line and "[" in line] == [
        '["00000"',
        '["00001"',
    ]
    first, second = held.shards
    assert (first.shard_id, first.first, first.last, first.images) == ("00000", "a", "b", 2)
    assert (second.first, second.last, second.rows, second.quarantined) == ("c", "c", 8, 0)
    record = held.record("00000")
    assert first.files == record.files
    assert first.name("shards") == record.name("shards")
    assert first.record_sha256 == held.root.digest("records/00000.json")
    assert dict(held.manifest.tables)["objects.parquet"].sha256 == held.root.digest(
        "objects.parquet"
    )
    assert read_manifest(held.root) == held.manifest


def test_finishing_again_gives_the_same_bytes(held):
    before = held.root.read("manifest.json")
    assert finish(held.root, IDS) == held.totals
    assert held.root.read("manifest.json") == before


def test_only_committed_shards_make_a_manifest(make_store, root, images):
    make_store(root, images, 50, finished=False)
    with pytest.raises(InputError, match=r"1 of 3 shards of .* are not committed, such as 00007"):
        finish(root, ["00000", "00007", "00001"])
    assert root.read("manifest.json") is None


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_shard_without_its_rows_makes_no_manifest(make_store, root, images, damage):
    held = make_store(root, images, 50, finished=False)
    name = held.record("00001").name("shards")
    data = root.read(name)
    root.remove(name)
    if damage == "short":
        root.replace(name, data[:-1])
    says = r"1 of 2 shards of .* lack files that their records name, such as 00001; run the extr"
    with pytest.raises(store.DamagedShardsError, match=says) as raised:
        finish(root, IDS)
    assert raised.value.shard_ids == ["00001"]


def test_shards_that_were_made_from_something_else_make_no_manifest(held):
    held.root.remove("manifest.json")
    says = r"shard 00000 of .* was made from test, and now from another: choose another run dir"
    with pytest.raises(InputError, match=says):
        finish(held.root, IDS, made_from="another")
    assert held.root.read("manifest.json") is None
    assert finish(held.root, IDS, made_from="test") == held.totals


@pytest.mark.parametrize("count", [2, 4])
def test_images_too_few_or_too_many_make_no_manifest(held, count):
    held.root.remove("manifest.json")
    says = rf"the 2 shards of .* have 3 images, and there are {count}: choose another run directory"
    with pytest.raises(InputError, match=says):
        finish(held.root, IDS, images=count)
    assert held.root.read("manifest.json") is None
    assert finish(held.root, IDS, images=3) == held.totals


def test_what_is_committed_is_known_from_one_listing(make_store, root, images, monkeypatch):
    assert committed(root) == set()
    assert commit_times(root) == []
    make_store(root, images, 50, finished=False)
    root.replace("records/00002.json", b"")
    root.replace("records/00003.json.tmp.0123456789ab", b"half")

    def none(*_):
        raise AssertionError("a record was read")

    monkeypatch.setattr(type(root), "read", none)
    assert committed(root) == set(IDS)
    first, last = commit_times(root)
    assert 1_700_000_000 < first <= last < first + 60


def test_a_whole_store_is_sound(held):
    assert sound(held.root) is None


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "store.json",
        "images.parquet",
        "objects.parquet",
        "tables.json",
        "records/00001.json",
    ],
)
def test_what_is_missing_is_not_sound(held, name):
    held.root.remove(name)
    said = sound(held.root)
    assert said is not None
    assert str(held.root) in said
    assert ("is not finished" if name == "manifest.json" else f"{name} is missing") in said


def test_what_was_cut_short_is_not_sound(held):
    for name, says in (
        ("images.parquet", r"images.parquet has 3 bytes, the manifest says [\d,]+"),
        (held.shards[1].name("shards"), r"parquet has 3 bytes, its record says [\d,]+"),
        ("records/00001.json", "records/00001.json is empty"),
        ("manifest.json", "is not finished: run its recipe again"),
    ):
        data = held.root.read(name)
        held.root.replace(name, b"" if "empty" in says else data[:3])
        with pytest.raises(AssertionError, match=says):
            assert sound(held.root) is None, sound(held.root)
        held.root.replace(name, data)
    held.root.remove(held.shards[0].name("shards"))
    assert sound(held.root).endswith(f"{held.shards[0].name('shards')} is missing")


def test_quarantined_images_are_accounted_for(make_store, root, images, shard_rows):
    held = make_store(root, images, 50, finished=False)
    root.remove("records/00000.json")
    spec = VectorSpec(50, "float32")
    with ShardWriter(root, "00000", spec.schema(), 1) as writer:
        writer.write(shard_rows(spec, "a", images[0]["a"]))
        writer.commit("test", {"a": 7}, {"b": "torn"}, "")
    totals = finish(root, IDS)
    assert (totals.images_in, totals.images, totals.quarantined) == (3, 2, 1)
    assert store.open(root).quarantined() == {"b": "torn"}
    assert [(entry.first, entry.last) for entry in store.open(root).shards] == [
        ("a", "b"),
        ("c", "c"),
    ]
    assert held.record("00001").quarantined == {}


@pytest.mark.parametrize("content", ["", "[]", "{}", "3", '{"format": 3, "shards": [[]]}'])
def test_a_damaged_manifest_is_none(held, content):
    held.root.replace("manifest.json", content.encode())
    with pytest.raises(InputError, match="is not finished"):
        store.open(held.root)


def test_a_manifest_does_not_lead_out_of_the_store(held):
    text = held.root.read("manifest.json").decode()
    held.root.replace("manifest.json", text.replace('"00001"', '"../1"').encode())
    says = r"the manifest has a line that is no shard, .*\.\./1.*: spp fsck rebuilds it"
    again = store.open(held.root)
    for read in (again.scan, again.verify):
        with pytest.raises(InputError, match=says):
            list(read())
    assert "spp fsck rebuilds it" in sound(held.root)
    assert store.fsck(held.root) == ["manifest.json is rebuilt from 2 records"]
    assert held.root.read("manifest.json").decode() == text


@pytest.mark.parametrize("manifest", [{"shards": [{"format": 2}]}, {"format": 2, "shards": []}])
def test_a_store_of_another_format_is_told_apart_from_one_that_is_not_finished(held, manifest):
    held.root.replace("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(InputError, match="was made with format 2, and this version reads 3: run"):
        store.open(held.root)


def test_a_claim_names_the_field_inside_a_section(root):
    claim(root, {"features": {"scales": [480], "layer": "pool5"}})
    with pytest.raises(InputError, match=r"made with features\.scales = \[480\]; the recipe has"):
        claim(root, {"features": {"scales": [480, 576], "layer": "pool5"}})


def test_claiming_twice_is_fine(root):
    claim(root, {"layer": "pool5", "scales": [480, 576]})
    claim(root, {"scales": [480, 576], "layer": "pool5"})
    assert json.loads(root.read("store.json"))["layer"] == "pool5"


@pytest.mark.parametrize("torn", [b"", b'{"layer"'])
def test_a_torn_claim_is_none(root, torn):
    root.replace("store.json", torn)
    claim(root, {"layer": "pool5"})
    assert json.loads(root.read("store.json")) == {"layer": "pool5"}


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"layer": "fc7", "scales": [480]}, "layer = pool5; the recipe has fc7"),
        ({"layer": "pool5", "scales": [688]}, r"scales = \[480\]; the recipe has \[688\]"),
        ({"layer": "pool5"}, r"scales = \[480\]; the recipe has None"),
        ({"layer": "pool5", "scales": [480], "split": "x"}, "split = None; the recipe has x"),
    ],
)
def test_a_claim_names_the_field_that_differs(root, now, says):
    claim(root, {"layer": "pool5", "scales": [480]})
    before = root.read("store.json")
    with pytest.raises(InputError, match=f"{says}.*Choose another run directory"):
        claim(root, now)
    assert root.read("store.json") == before


def test_records_are_on_the_disk_before_the_manifest_names_them(held, monkeypatch):
    """An attempt that was killed may have left a name that no crash would leave."""
    done, kind = [], type(held.root)
    for method in ("settle", "replace"):
        original = getattr(kind, method)

        def noted(root, name, *more, method=method, original=original):
            done.append((method, name))
            return original(root, name, *more)

        monkeypatch.setattr(kind, method, noted)
    finish(held.root, IDS)
    assert done == [
        ("settle", "records"),
        ("replace", "tables.json"),
        ("replace", "manifest.json"),
    ]


@pytest.mark.parametrize("content", ["half", "another's"])
def test_a_record_that_cannot_count_is_told_from_one_that_is_not_there(root, content):
    small_store.make(root)
    root.remove("manifest.json")
    other = root.read("records/00001.json")
    root.replace("records/00000.json", other if content == "another's" else other[:99])
    says = r"1 of 2 .* cannot be read, such as 00000; run the extraction again"
    with pytest.raises(store.DamagedShardsError, match=says) as raised:
        store.finish(root, ["00000", "00001"])
    assert raised.value.shard_ids == ["00000"]
