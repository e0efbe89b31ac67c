"""What a store was made from, and the proof that it is whole."""

import json

import pyarrow as pa
import pytest

from pipeline import store
from pipeline.datasets.records import Object
from pipeline.errors import InputError
from pipeline.store import ShardWriter, VectorSpec, finish
from pipeline.store.manifest import claim


@pytest.fixture
def images(made):
    windows = [[k, 0, k + 5, 9] for k in range(7)]
    return [
        {"a": made([[k] * 50 for k in range(7)], windows), "b": made([[1] * 50] * 7, windows)},
        {"c": made([[2] * 50] * 8, windows, (Object("cat", (1.0, 2.0, 3.0, 4.0)),))},
    ]


@pytest.fixture
def held(make_store, tmp_path, images):
    return make_store(tmp_path / "store", images, 50)


def problems(held):
    return [(fault.shard_id, fault.problem) for fault in held.verify()]


def test_a_whole_store_has_no_fault(held):
    assert held.verify() == []


def test_the_manifest_counts(held):
    manifest = json.loads((held.root / "manifest.json").read_text())
    assert {key: manifest[key] for key in ("rows", "images_in", "images_done")} == {
        "rows": 22,
        "images_in": 3,
        "images_done": 3,
    }
    assert manifest["images_quarantined"] == 0
    sizes = [path.stat().st_size for path in (held.root / "shards").iterdir()]
    assert manifest["bytes"] == sum(sizes)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, "one byte"])
def test_truncation_anywhere(held, share):
    path = held.root / "shards/00000.parquet"
    data = path.read_bytes()
    kept = len(data) - 1 if share == "one byte" else int(len(data) * share)
    path.write_bytes(data[:kept])
    says = f"has {kept} bytes, its record says {len(data)}"
    assert problems(held) == [("00000", says)]


@pytest.mark.parametrize("place", [0, 0.3, 0.6, 0.999])
def test_a_flipped_bit_anywhere(held, place):
    path = held.root / "shards/00001.parquet"
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    assert problems(held) == [("00001", "has other bytes than were written: its sha256 differs")]


def test_a_missing_shard(held):
    (held.root / "shards/00001.parquet").unlink()
    ((shard_id, problem),) = problems(held)
    assert shard_id == "00001"
    assert problem.startswith("is missing; remove its record")


@pytest.mark.parametrize("name", ["00002.parquet", "00000.parquet.tmp.12ab", "notes.txt"])
def test_a_foreign_file(held, name):
    (held.root / "shards" / name).write_bytes(b"x")
    ((shard_id, problem),) = problems(held)
    assert shard_id == name
    assert "is not named by the manifest" in problem


def test_a_record_that_differs(held):
    path = held.root / "records/00000.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"made_from": "another recipe"}))
    assert problems(held) == [("00000", "has a commit record that differs from the manifest")]
    path.unlink()
    assert problems(held) == [("00000", "has a commit record that differs from the manifest")]


@pytest.mark.parametrize("count", [6, 7])
def test_rows_twice(held, images, shard_rows, count):
    """Seven rows of which two have one window_id, whatever the record says of them."""
    spec = VectorSpec(50, "float32")
    rows = shard_rows(spec, "a", images[0]["a"])
    ids = pa.array([0, 1, 2, 3, 4, 5, 5], pa.int32())
    doubled = rows.set_column(1, spec.schema().field("window_id"), ids)
    with ShardWriter(held.root, "00000", spec.schema(), 1) as writer:
        writer.write(doubled)
        writer.write(shard_rows(spec, "b", images[0]["b"]))
        writer.commit("test", {"a": count, "b": 7}, {}, "")
    finish(held.root, ["00000", "00001"])
    (fault,) = store.open(held.root).verify()
    assert (fault.shard_id, fault.problem) == (
        "00000",
        "holds other images, or rows twice, than its record says",
    )


@pytest.mark.parametrize("counts", [{"a": 7, "c": 7}, {"a": 6, "b": 8}, {"a": 7}])
def test_other_images_than_the_record_says(held, images, shard_rows, counts):
    spec = VectorSpec(50, "float32")
    with ShardWriter(held.root, "00000", spec.schema(), 1) as writer:
        for image_id, image in images[0].items():
            writer.write(shard_rows(spec, image_id, image))
        writer.commit("test", counts, {}, "")
    finish(held.root, ["00000", "00001"])
    assert ("00000", "holds other images, or rows twice, than its record says") in problems(
        store.open(held.root)
    )


def test_an_image_in_two_shards(held, images, shard_rows):
    spec = VectorSpec(50, "float32")
    with ShardWriter(held.root, "00002", spec.schema(), 1) as writer:
        writer.write(shard_rows(spec, "b", images[0]["b"]))
        writer.commit("test", {"b": 7}, {"c": "torn"}, "")
    finish(held.root, ["00000", "00001", "00002"])
    assert problems(store.open(held.root)) == [
        ("00002", "holds image b, which is in 00000 too"),
        ("00002", "holds image c, which is in 00001 too"),
    ]


def test_an_image_in_no_shard(held):
    finish(held.root, ["00000"])
    (held.root / "shards/00001.parquet").unlink()
    assert problems(store.open(held.root)) == [
        ("images.parquet", "lists image c, which is in no shard")
    ]
    (held.root / "images.parquet").unlink()
    assert problems(store.open(held.root)) == [
        ("images.parquet", "is missing; run the extraction again")
    ]


def test_a_damaged_image_table(held):
    (held.root / "images.parquet").write_bytes(b"PAR1 no more")
    ((name, problem),) = problems(held)
    assert name == "images.parquet"
    assert problem.startswith("is damaged: ")


def test_quarantined_images_are_accounted_for(held, images, shard_rows):
    spec = VectorSpec(50, "float32")
    with ShardWriter(held.root, "00000", spec.schema(), 1) as writer:
        writer.write(shard_rows(spec, "a", images[0]["a"]))
        writer.commit("test", {"a": 7}, {"b": "torn"}, "")
    manifest = finish(held.root, ["00000", "00001"])
    assert (manifest["images_in"], manifest["images_done"]) == (3, 2)
    assert manifest["images_quarantined"] == 1
    assert store.open(held.root).verify() == []


def test_every_fault_is_found_at_once(held):
    (held.root / "shards/00000.parquet").unlink()
    (held.root / "shards/00001.parquet").write_bytes(b"")
    (held.root / "shards/x").write_bytes(b"")
    assert [fault.shard_id for fault in held.verify()] == ["00000", "00001", "x"]


def test_only_committed_shards_make_a_manifest(make_store, tmp_path, images):
    held = make_store(tmp_path, images, 50, finished=False)
    with pytest.raises(InputError, match=r"1 of 3 shards of .* are not committed, such as 00007"):
        finish(held.root, ["00000", "00007", "00001"])
    assert not (tmp_path / "manifest.json").exists()


def test_a_store_of_another_format_is_told_apart_from_one_that_is_not_finished(held):
    path = held.root / "manifest.json"
    manifest = json.loads(path.read_text())
    for shard in manifest["shards"]:
        shard["format"] = 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="was made with format 1, and this version reads 2: run"):
        store.open(held.root)


def test_a_claim_names_the_field_inside_a_section(tmp_path):
    claim(tmp_path, {"features": {"scales": [480], "layer": "pool5"}})
    with pytest.raises(InputError, match=r"made with features\.scales = \[480\]; the recipe has"):
        claim(tmp_path, {"features": {"scales": [480, 576], "layer": "pool5"}})


def test_claiming_twice_is_fine(tmp_path):
    claim(tmp_path, {"layer": "pool5", "scales": [480, 576]})
    claim(tmp_path, {"scales": [480, 576], "layer": "pool5"})
    assert json.loads((tmp_path / "store.json").read_text())["layer"] == "pool5"


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"layer": "fc7", "scales": [480]}, "layer = pool5; the recipe has fc7"),
        ({"layer": "pool5", "scales": [688]}, r"scales = \[480\]; the recipe has \[688\]"),
        ({"layer": "pool5"}, r"scales = \[480\]; the recipe has None"),
        ({"layer": "pool5", "scales": [480], "split": "x"}, "split = None; the recipe has x"),
    ],
)
def test_a_claim_names_the_field_that_differs(tmp_path, now, says):
    claim(tmp_path, {"layer": "pool5", "scales": [480]})
    before = (tmp_path / "store.json").read_bytes()
    with pytest.raises(InputError, match=f"{says}.*Choose another run directory"):
        claim(tmp_path, now)
    assert (tmp_path / "store.json").read_bytes() == before
