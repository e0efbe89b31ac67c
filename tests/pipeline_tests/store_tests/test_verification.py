"""The proof that a store is whole finds every fault, and says where it is."""

import hashlib
import json
import threading
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

from pipeline import index, machine, store
from pipeline.datasets.records import ImageRecord, Object
from pipeline.errors import InputError
from pipeline.store import ShardWriter, VectorSpec, finish, verification
from pipeline.store.entries import parse_manifest
from pipeline.store.labels import write_labels
from pipeline.store.place import place as at
from tests import small_store

SPEC = VectorSpec(50, "float32")
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


@pytest.fixture
def again(held, shard_rows, images):
    def write(shard_id, tables, counts, quarantined=None):
        """Make the store again with another content of a shard."""
        for entry in held.shards:
            if entry.shard_id == shard_id:
                held.root.remove(entry.name("shards"))
                held.root.remove(f"records/{shard_id}.json")
        with ShardWriter(held.root, shard_id, SPEC.schema(), 1) as writer:
            for table in tables:
                writer.write(table)
            writer.commit("test", counts, quarantined or {}, "")
        finish(held.root, sorted({*IDS, shard_id}))
        return store.open(held.root)

    return write


NO_FILE = "it is no file, but a folder, a pipe or a device"


def problems(held, images=False):
    return [(fault.shard_id, fault.problem) for fault in held.verify(images)]


def test_a_whole_store_has_no_fault(held):
    assert held.verify() == []


OTHER = "has other bytes than were written: its sha256 differs"


def test_truncation_anywhere(held):
    """At every 4 KB, at the first byte and at the last."""
    name = held.shards[0].name("shards")
    data = held.root.read(name)
    for kept in [*range(0, len(data), 4096), 1, len(data) - 1]:
        held.root.replace(name, data[:kept])
        says = f"{name} has {kept:,} bytes, its record says {len(data):,}"
        assert problems(held) == [("00000", says)]
    held.root.replace(name, data + b"x")
    says = f"{name} has {len(data) + 1:,} bytes, its record says {len(data):,}"
    assert problems(held) == [("00000", says)]


def test_a_flipped_bit_anywhere(held):
    name = held.shards[1].name("shards")
    data = held.root.read(name)
    random = np.random.default_rng(3)
    places = [0, 7, len(data) * 8 - 1, *random.integers(0, len(data) * 8, 25).tolist()]
    for place in places:
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        held.root.replace(name, bytes(flipped))
        assert problems(held) == [("00001", f"{name} {OTHER}")], place


def test_a_flipped_bit_of_the_manifest(tmp_path, monkeypatch):
    """Every one: the file is refused, or held against the records and against its own sums."""
    root = at(tmp_path)
    small_store.make(root)
    data, shards = root.read("manifest.json"), list(store.open(root).shards)
    monkeypatch.setattr(machine, "cpus", lambda: 1)  # threads would take half of the time
    verified = 0
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        manifest = parse_manifest(bytes(flipped), {})
        with suppress(InputError):
            # Of a thousand lines that are not what a record says, every 31st is time enough.
            if manifest is not None and (list(manifest.shards) == shards or bit % 31 == 0):
                (tmp_path / "manifest.json").write_bytes(flipped)
                assert verification.verify(root), (bit, flipped[bit // 8 - 9 : bit // 8 + 9])
                verified += 1
    assert verified > 100


@pytest.mark.parametrize(
    ("was", "now"),
    [(b'"rows": 22', b'"rows": 72'), (b'"first": "shards/00000', b'"first": "shards/00009')],
)
def test_sums_that_the_shards_do_not_give(held, was, now):
    before = held.root.read("manifest.json")
    held.root.replace("manifest.json", before.replace(was, now))
    again, says = store.open(held.root), "has other sums than its shards give"
    assert held.root.read("manifest.json") != before
    assert problems(again) == [("manifest.json", says)]
    assert store.sound(held.root) == f"{held.root}/manifest.json {says}"
    assert store.fsck(held.root) == ["manifest.json is rebuilt from 2 records"]
    assert held.root.read("manifest.json") == before


@pytest.mark.parametrize("name", ["store.json", "images.parquet", "objects.parquet"])
def test_what_lies_beside_the_shards(held, name):
    data = held.root.read(name)
    held.root.replace(name, data[:-1])
    says = f"has {len(data) - 1:,} bytes, the manifest says {len(data):,}"
    assert problems(held) == [(name, says)]
    held.root.replace(name, data[:9] + bytes([data[9] ^ 1]) + data[10:])
    assert problems(held) == [(name, OTHER)]
    held.root.remove(name)
    assert problems(held) == [(name, "is missing")]


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"images.parquet": 3}'])
def test_what_is_known_of_what_lies_beside_the_shards(held, content):
    before = held.root.read("tables.json")
    held.root.remove("tables.json")
    if content is not None:
        held.root.replace("tables.json", content)
    again = store.open(held.root)
    assert problems(again) == [("tables.json", "is missing, or cannot be read")]
    assert store.sound(held.root) == f"{held.root}/tables.json is missing, or cannot be read"
    assert store.fsck(held.root) == ["tables.json is rebuilt from the files that it tells of"]
    assert held.root.read("tables.json") == before


def test_where_the_images_lie_changes_no_byte_of_the_manifest(held):
    before = held.root.read("manifest.json")
    table = held.images
    files = pa.array([f"/elsewhere/{name}" for name in table["image_id"].to_pylist()])
    other = table.set_column(1, table.schema.field("file"), files)
    write_labels(held.root, "images.parquet", other)
    finish(held.root, IDS)
    assert held.root.read("manifest.json") == before
    assert problems(store.open(held.root)) == []


def test_shards_are_hashed_at_once(held, monkeypatch):
    """Two cores hash 1.9 times as fast as one, on a local disk too."""
    both, digest = threading.Barrier(2, timeout=10), type(held.root).digest

    def met(self, name):
        if name.startswith("shards/"):
            both.wait()
        return digest(self, name)

    monkeypatch.setattr(machine, "cpus", lambda: 2)
    monkeypatch.setattr(type(held.root), "digest", met)
    assert held.verify() == []
    assert store.fsck(held.root) == []


def test_a_missing_shard(held):
    name = held.shards[1].name("shards")
    held.root.remove(name)
    assert problems(held) == [("00001", f"{name} is missing")]


@pytest.mark.parametrize(
    "name",
    [
        "shards/00002-0123456789ab.parquet",
        "shards/00000.parquet",
        "shards/00000-0123456789ab.parquet.tmp.0123456789ab",
        "shards/notes.txt",
        "maps/00000-0123456789ab.parquet",
        "records/00002.json",
    ],
)
def test_a_foreign_file(held, name):
    held.root.replace(name, b"x")
    ((file, problem),) = problems(held)
    assert file == name.partition("/")[2]
    assert problem.startswith("is not named by the manifest: spp gc removes what attempts left")


def test_a_record_that_differs(held):
    record = json.loads(held.root.read("records/00000.json"))
    changed = json.dumps(record | {"made_from": "another recipe"}).encode()
    differs = "has a commit record that differs from the manifest"
    unread = "has no commit record, or one that cannot be read"
    for data, says in ((changed, differs), (b"", unread), (changed[:-1], unread), (b"[]", unread)):
        held.root.replace("records/00000.json", data)
        assert problems(held) == [("00000", says)]
    held.root.remove("records/00000.json")
    assert problems(held) == [("00000", unread)]


@pytest.mark.parametrize("count", [6, 7])
def test_rows_twice(again, images, shard_rows, count):
    """Seven rows of which two have one window_id, whatever the record says of them."""
    rows = shard_rows(SPEC, "a", images[0]["a"])
    ids = pa.array([0, 1, 2, 3, 4, 5, 5], pa.int32())
    doubled = rows.set_column(1, SPEC.schema().field("window_id"), ids)
    other = shard_rows(SPEC, "b", images[0]["b"])
    held = again("00000", [doubled, other], {"a": count, "b": 7})
    says = "holds other images, or rows twice or in another order, than its record says"
    assert problems(held) == [("00000", says)]


@pytest.mark.parametrize("counts", [{"a": 7, "c": 7}, {"a": 6, "b": 8}, {"a": 7}])
def test_other_images_than_the_record_says(again, images, shard_rows, counts):
    tables = [shard_rows(SPEC, image_id, image) for image_id, image in images[0].items()]
    held = again("00000", tables, counts)
    says = "holds other images, or rows twice or in another order, than its record says"
    assert ("00000", says) in problems(held)


def test_an_image_in_two_shards(again, images, shard_rows):
    held = again("00002", [shard_rows(SPEC, "b", images[0]["b"])], {"b": 7}, {"c": "torn"})
    assert problems(held) == [
        ("00002", "holds image b, which is in 00000 too"),
        ("00001", "holds image c, which is in 00002 too"),
    ]


def test_images_in_no_shard(make_store, root, images, held):
    finish(held.root, ["00000"])
    root.remove(held.shards[1].name("shards"))
    root.remove("records/00001.json")
    assert problems(store.open(root)) == [("images.parquet", "lists image c, which is in no shard")]
    finish(held.root, [])
    root.remove(held.shards[0].name("shards"))
    root.remove("records/00000.json")
    says = "lists 3 images, such as image a, which are in no shard"
    assert problems(store.open(root)) == [("images.parquet", says)]


def test_an_image_that_its_neighbours_shard_has_not(held):
    """Between a and b, which are in one shard."""
    table = held.images
    aa = table.slice(0, 1).set_column(0, table.schema.field("image_id"), pa.array(["aa"]))
    write_labels(held.root, "images.parquet", pa.concat_tables([table, aa]))
    finish(held.root, IDS)
    says = "lists image aa, which is in no shard"
    assert problems(store.open(held.root)) == [("images.parquet", says)]


def test_images_that_nobody_listed(held):
    table = held.images
    for kept in ([0, 2], [1, 2], [0, 1]):
        write_labels(held.root, "images.parquet", table.take(kept))
        finish(held.root, IDS)
        (gone,) = {0, 1, 2} - set(kept)
        says = f"holds image {'abc'[gone]}, which images.parquet does not list"
        assert problems(store.open(held.root)) == [(IDS[gone // 2], says)]
        assert (IDS[gone // 2], says) in problems(store.open(held.root), images=True)


def test_every_fault_is_found_at_once(held):
    held.root.remove(held.shards[0].name("shards"))
    held.root.replace(held.shards[1].name("shards"), b"")
    held.root.replace("shards/x", b"")
    held.root.replace("objects.parquet", b"")
    assert [fault.shard_id for fault in held.verify()] == ["objects.parquet", "00000", "00001", "x"]


def test_image_files_that_changed(root, tmp_path, made, shard_rows):
    """Three files, one of which was missing when its shard was made."""
    digest = hashlib.sha256()
    for name in "ac":  # b is missing
        (tmp_path / name).write_bytes(name.encode() * 7)
        digest.update(hashlib.sha256(name.encode() * 7).digest())
    images = {name: made([[1] * 50], [[0, 0, 5, 9]]) for name in "ac"}
    store.claim(root, {"network": "none"})
    with ShardWriter(root, "00000", SPEC.schema(), 1) as writer:
        for name, image in images.items():
            writer.write(shard_rows(SPEC, name, image))
        writer.commit("test", {"c": 1, "a": 1}, {"b": "there is no file"}, digest.hexdigest())
    records = [ImageRecord(name, tmp_path / name, 9, 9, ()) for name in "abc"]
    write_labels(root, "images.parquet", index.images_table(records, "train"))
    write_labels(root, "objects.parquet", index.objects_table(records, "train"))
    finish(root, ["00000"])
    held = store.open(root)
    assert held.verify() == held.verify(images=True) == []

    def told():
        return [fault.problem for fault in held.verify(images=True)]

    (tmp_path / "c").write_bytes(b"other")
    assert held.verify() == []
    size = f"image c: {tmp_path}/c has 5 bytes, and had 7 when it was read"
    assert held.verify(images=True) == [store.Fault("00000", size, store.Cure.images)]
    (tmp_path / "c").write_bytes(b"C" * 7)
    kept = "was made from image files that have changed since, with their sizes kept: one of a … c"
    assert told() == [kept]
    (tmp_path / "c").write_bytes(b"c" * 7)
    (tmp_path / "b").write_bytes(b"new")
    new = f"image b: {tmp_path}/b has 3 bytes, and was missing when it was read"
    assert told() == [new]
    (tmp_path / "a").unlink()
    assert told() == [f"image a: {tmp_path}/a is missing", new]
    # What cannot be read is no change, and no traceback: here it is a folder. It hides no other.
    (tmp_path / "a").mkdir()
    unread = f"image a: {tmp_path}/a cannot be read ({NO_FILE})"
    assert told() == [unread, new]
    (tmp_path / "b").unlink()
    (tmp_path / "c").write_bytes(b"C" * 7)  # of that nothing tells now
    assert told() == [unread]
    # The digests agree, for b had none: and yet something is there now.
    (tmp_path / "a").rename(tmp_path / "b")
    for name in "ac":
        (tmp_path / name).write_bytes(name.encode() * 7)
    assert told() == [f"image b: {tmp_path}/b cannot be read ({NO_FILE})"]
