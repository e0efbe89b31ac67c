"""Rows that an earlier store has are taken over: to the bit those that would be made."""

import json
import os
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import images
from pipeline.extraction import Earlier
from pipeline.extraction.earlier import EarlierStore, held_rows
from pipeline.store.place import place
from pipeline.windows.table import WindowTables

KINDS = [
    {},
    {"vector_layout": "list", "vector_dtype": "float32"},
    {"store": "maps"},
    {"mode": "warp", "layer": "fc7", "scales": (96,)},
]


@pytest.fixture
def decoded(monkeypatch):
    """How many images are decoded, by the length of their file."""
    seen, decode = [], images.decode

    def counted(data, **options):
        seen.append(len(data))
        return decode(data, **options)

    monkeypatch.setattr(images, "decode", counted)
    return seen


@pytest.fixture
def made(spec, extract, dataset):
    """Make a store of some images, perhaps from earlier ones, in a place of its own."""

    def make(name, image_ids, settings=spec, earlier=()):
        there = replace(settings, root=place(dataset / name), earlier=tuple(earlier))
        held, stats = extract(there, image_ids)
        # As a job keeps it: the images as they are now.
        listed = pq.read_table(spec.images)
        kept = listed.filter(pa.compute.is_in(listed["image_id"], pa.array(image_ids)))
        (dataset / f"{name}.listed").mkdir()
        pq.write_table(kept, dataset / f"{name}.listed" / "images.parquet")
        return Earlier(held.root, dataset / f"{name}.listed" / "images.parquet"), held, stats

    return make


def files_of(held):
    return [entry.files for entry in held.shards]


@pytest.mark.parametrize("changes", KINDS, ids=["binary", "list", "maps", "warp"])
def test_what_is_taken_over_has_the_bits_that_would_be_made(made, spec, change, changes, decoded):
    settings = change(spec, **changes)
    assert settings.features.made_alone
    _, anew, _ = made("anew", ("a", "b", "c"), settings)
    before, _, stats = made("before", ("a",), settings)
    assert stats.taken == 0
    decoded.clear()
    _, held, stats = made("after", ("a", "b", "c"), settings, [before])
    assert (stats.taken, len(decoded)) == (1, 2)
    assert files_of(held) == files_of(anew)
    assert held.verify() == []


def test_several_stores_are_taken_from_and_the_first_counts(made, spec, decoded):
    _, anew, _ = made("anew", ("a", "b", "c"))
    some, others = made("some", ("a",))[0], made("others", ("a", "b"))[0]
    stores = [EarlierStore(some), EarlierStore(others)]
    windows = WindowTables(spec.windows).read(["a", "b"])
    listed = pq.read_table(spec.images)
    held = held_rows(stores, listed, windows)
    assert [(name, stores.index(each.store)) for name, each in held.items()] == [("a", 0), ("b", 1)]
    decoded.clear()
    _, held, stats = made("after", ("a", "b", "c"), earlier=[some, others])
    assert (stats.taken, len(decoded)) == (2, 1)  # c has no window: nothing is to be taken
    assert files_of(held) == files_of(anew)


def touched(dataset, made, relist):
    file = dataset / "a.jpg"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    relist()


def another_window(dataset, made, relist):
    table = pq.read_table(dataset / "windows/0.parquet")
    boxes = table["x_max"].to_pylist()
    boxes[0] -= 1
    moved = table.set_column(4, table.schema.field("x_max"), pa.array(boxes, pa.float32()))
    pq.write_table(moved, dataset / "windows/0.parquet")


def one_window_less(dataset, made, relist):
    table = pq.read_table(dataset / "windows/0.parquet")
    pq.write_table(table.slice(1), dataset / "windows/0.parquet")


def of_another_source(dataset, made, relist):
    table = pq.read_table(dataset / "windows/0.parquet")
    words = ["ground_truth", *table["source"].to_pylist()[1:]]
    named = table.set_column(6, table.schema.field("source"), pa.array(words).dictionary_encode())
    pq.write_table(named, dataset / "windows/0.parquet")


@pytest.mark.parametrize("happens", [touched, another_window, one_window_less, of_another_source])
def test_an_image_that_is_not_as_it_was_is_made(made, dataset, relist, happens):
    before = made("before", ("a", "b"))[0]
    happens(dataset, made, relist)
    anew = made("anew", ("a", "b", "c"))[1]
    _, held, stats = made("after", ("a", "b", "c"), earlier=[before])
    assert stats.taken == 1
    assert files_of(held) == files_of(anew)


def flipped(root):
    (file,) = (root / "shards").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_short(root):
    (file,) = (root / "shards").iterdir()
    file.write_bytes(file.read_bytes()[:-100])


def recounted(root):
    """Let the record say that the second image's rows begin a row earlier."""
    (file,) = (root / "records").iterdir()
    record = json.loads(file.read_text())
    first, second = sorted(record["images"])[:2]
    record["images"][first] -= 1
    record["images"][second] += 1
    file.write_text(json.dumps(record))


def without_records(root):
    shutil.rmtree(root / "records")


def without_manifest(root):
    (root / "manifest.json").unlink()


@pytest.mark.parametrize(
    "spoil", [flipped, cut_short, recounted, without_records, without_manifest, shutil.rmtree]
)
def test_what_is_damaged_or_gone_is_made_anew(made, spoil):
    before, anew, _ = made("before", ("a", "b", "c"))
    expected = files_of(anew)
    spoil(before.root.path)
    _, held, stats = made("after", ("a", "b", "c"), earlier=[before])
    assert stats.taken == 0
    assert files_of(held) == expected


def test_an_image_that_was_left_out_is_looked_at_again(made, dataset, relist):
    file = dataset / "a.jpg"
    whole, state = file.read_bytes(), file.stat()
    file.write_bytes(bytes(len(whole)))
    os.utime(file, ns=(0, state.st_mtime_ns))
    relist()
    before, held, _ = made("before", ("a", "b"))
    assert list(held.quarantined()) == ["a"]
    file.write_bytes(whole)
    os.utime(file, ns=(0, state.st_mtime_ns))
    relist()
    _, held, stats = made("after", ("a", "b"), earlier=[before])
    assert (stats.taken, held.quarantined()) == (1, {})


def test_images_that_share_batches_are_made_together(spec, change):
    assert not change(spec, images_per_batch=2).features.made_alone
    assert not change(spec, layer="fc7").features.made_alone
