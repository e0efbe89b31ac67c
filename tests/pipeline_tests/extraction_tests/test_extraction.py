"""Images and windows to a committed shard, against the same told plainly."""

import uuid
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import images, networks
from pipeline.errors import InputError
from pipeline.extraction import ShardExtractor
from pipeline.features import window_vectors
from pipeline.store import commit_times, plan_shards, vectors
from pipeline.store.place import place
from pipeline.store.schema import box_array
from pipeline.windows.table import WINDOWS
from tests.s3 import BUCKET


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layout", ["binary", "list"])
def test_vectors_equal_the_plain_way(spec, dtype, layout, extract, table_of, change, plainly):
    held, stats = extract(change(spec, vector_dtype=dtype, vector_layout=layout))
    table = table_of(held)
    expected = [one for image_id in "abc" for one in plainly(spec, image_id)]
    assert table["scale_px"].to_pylist() == [scale for scale, _ in expected]
    assert set(table["scale_px"].to_pylist()) == {140, 280}  # or the test would prove little
    wanted = torch.stack([vector for _, vector in expected]).numpy().astype(dtype)
    assert vectors(table).tolist() == wanted.tolist()
    assert np.count_nonzero(wanted) > wanted.size / 10
    assert (stats.rows, stats.images, stats.quarantined) == (5, 3, {})
    assert set(stats.seconds) == {"decode", "network", "pooling", "write"}
    assert set(stats.waits) == {"decode", "write"}


def test_rows_carry_their_window(spec, extract, table_of, boxes):
    held, _ = extract(spec)
    table = table_of(held)
    assert table["image_id"].to_pylist() == ["a"] * 4 + ["b"]
    assert table["window_id"].to_pylist() == [0, 1, 2, 3, 0]
    assert box_array(table).tolist() == [*boxes["a"], *boxes["b"]]
    assert set(table["source"].to_pylist()) == {"grid"}
    assert set(table["split"].to_pylist()) == {"test"}


def test_fc_layers_follow(spec, extract, table_of, change, plainly):
    network = networks.load("zf5", seed=3, **spec.network.options)
    pooled = torch.stack([vector for name in "ab" for _, vector in plainly(spec, name)])
    for layer in ("fc6", "fc7"):
        held, _ = extract(
            replace(change(spec, layer=layer, vector_dtype="float32"), root=spec.root / layer)
        )
        assert held.spec.length == 24
        expected = network.fc(pooled, layer).numpy()
        np.testing.assert_allclose(vectors(table_of(held)), expected, rtol=1e-4, atol=1e-5)
        assert np.count_nonzero(expected) > 0


def test_one_image_by_hand_is_the_same(spec, extract, table_of, boxes):
    held, _ = extract(spec)
    image = images.decode((spec.images.parent / "a.jpg").read_bytes())
    network = networks.load("zf5", seed=3, **spec.network.options)
    found, scales = window_vectors(image, np.array(boxes["a"], float), network, spec.features)
    assert found.tolist() == vectors(table_of(held))[:4].tolist()
    assert scales.tolist() == table_of(held)["scale_px"].to_pylist()[:4]
    none, scales = window_vectors(image, np.zeros((0, 4)), network, spec.features)
    assert (none.shape, scales.shape) == ((0, 16 * 14), (0,))


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_rule": "max", "scales": (170, 205)},
        {"scale_rule": "max", "scales": (170, 205), "layer": "fc7", "fc_rows": 3},
        {"mode": "warp"},
        {"mode": "warp", "layer": "fc7", "mirrored": True},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_other_ways_to_a_window(spec, extract, table_of, boxes, change, changes):
    spec = change(spec, vector_dtype="float32", **changes)
    held, stats = extract(spec)
    rows = table_of(held)
    network = networks.load("zf5", seed=3, **spec.network.options)
    start = 0
    for image_id in ("a", "b", "c"):
        image = images.decode((spec.images.parent / f"{image_id}.jpg").read_bytes())
        given = np.array(boxes[image_id], float).reshape(-1, 4)
        expected, scales = window_vectors(image, given, network, spec.features)
        part = slice(start, start + len(given))
        np.testing.assert_allclose(vectors(rows)[part], expected, rtol=1e-4, atol=1e-5)
        assert rows["scale_px"].to_pylist()[part] == scales.tolist()
        start += len(given)
    assert len(rows) == start
    assert stats.images == 3


def test_a_mirrored_store_keeps_the_boxes_of_the_image(spec, extract, table_of, boxes, change):
    held, _ = extract(change(spec, mirrored=True))
    rows = table_of(held)
    image = images.decode((spec.images.parent / "a.jpg").read_bytes())
    network = networks.load("zf5", seed=3, **spec.network.options)
    settings = spec.features.model_copy(update={"mirrored": True})
    found, _ = window_vectors(image, np.array(boxes["a"], float), network, settings)
    assert vectors(rows)[:4].tolist() == found.tolist()
    assert rows["x_max"].to_pylist()[:4] == [box[2] for box in boxes["a"]]


@pytest.mark.parametrize(("rule", "scale"), [("area", 205), ("released", 170)])
def test_the_recipe_sets_the_scale_rule(spec, rule, scale, extract, table_of, change):
    # the whole of a, 6,300 px²: 6,300 · (205/70)² = 54,032 is nearer to 224² than 37,157 at 170;
    # but 208 · 70 / √6,300 = 183 is nearer to 170
    held, _ = extract(change(spec, scales=(170, 205), scale_rule=rule), ("a",))
    assert table_of(held)["scale_px"].to_pylist()[0] == scale


def test_a_store_of_maps_gives_the_rows_of_a_store_of_windows(spec, extract, table_of, change):
    held, stats = extract(spec)
    maps, kept = extract(
        change(replace(spec, root=place(spec.root.path.with_name("maps"))), store="maps")
    )
    assert table_of(maps).to_pylist() == table_of(held).to_pylist()
    assert (kept.rows, kept.images) == (stats.rows, stats.images) == (5, 3)
    (file,) = (maps.root.path / "maps").iterdir()
    rows = pq.read_table(file).select(["image_id", "scale_px", "factor_x", "rows", "cols"])
    # a, 90×70, at 280 is 360×280, four times as large. ZF-5's layers make of 280 px 138, 69, 33
    # and 16 cells, of 360 px 178, 89, 43 and 21
    asked = {(row["image_id"], row["scale_px"]): row for row in rows.to_pylist()}
    assert asked["a", 280]["factor_x"] == 4
    assert (asked["a", 280]["rows"], asked["a", 280]["cols"]) == (16, 21)
    assert sorted(asked) == [("a", 140), ("a", 280), ("b", 140)]  # what some window asks for
    assert maps.verify() == []


def test_windows_on_the_same_cells_share_a_vector(spec, dataset, extract, table_of, plainly):
    # whatever is below a pixel of the resized image falls on the same cells
    given = pq.read_table(dataset / "windows/0.parquet").to_pylist()
    moved = [{**row, "window_id": row["window_id"] + 10} for row in given]
    for row in moved:
        row["x_max"] -= 0.001
    table = pa.Table.from_pylist(sorted(given + moved, key=lambda row: row["image_id"]), WINDOWS)
    pq.write_table(table, dataset / "windows/0.parquet")
    held, stats = extract(spec)
    assert (stats.rows, stats.reused) == (10, 5)
    expected = [vector for name in "ab" for _ in range(2) for _, vector in plainly(spec, name)]
    assert vectors(table_of(held)).tolist() == torch.stack(expected).half().tolist()


def test_low_ranks_are_decomposed_once_and_saved(spec, dataset, monkeypatch):
    file = dataset / "network.safetensors"
    assert spec.network.prepared(file) == spec.network
    low = replace(spec.network, fc6_rank=5, fc7_rank=3, precision="bfloat16")
    prepared = low.prepared(file)
    assert networks.digest(prepared.load()) == networks.digest(low.load())
    written = file.stat().st_mtime_ns
    assert low.prepared(file) == prepared
    assert file.stat().st_mtime_ns == written


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("changes", [{}, {"layer": "fc7"}, {"store": "maps"}])
def test_a_gpu_gives_what_the_cpu_gives(spec, monkeypatch, changes, extract, table_of, change):
    """The only path through streams and events; sums on a card round otherwise."""
    spec = change(spec, **changes)
    on_gpu, _ = extract(replace(spec, root=place(spec.root.path.with_name("gpu"))))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu, _ = extract(replace(spec, root=place(spec.root.path.with_name("cpu"))))
    found, expected = (vectors(table_of(held)).astype(float) for held in (on_gpu, on_cpu))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


# --- committed once ------------------------------------------------------------------------------


def test_two_runs_are_equal_byte_by_byte(spec, extract):
    one, _ = extract(spec)
    other, _ = extract(replace(spec, root=place(spec.root.path.with_name("other"))))
    for name in ("shards", "records"):
        (file,) = (one.root.path / name).iterdir()
        assert file.read_bytes() == (other.root.path / name / file.name).read_bytes()


def test_a_committed_shard_is_left_as_it_is(spec, dataset, extract):
    held, stats = extract(spec)
    (file,) = (held.root.path / "shards").iterdir()
    before = file.stat()
    (dataset / "a.jpg").unlink()  # it is not even looked at
    _, again = extract(spec)
    after = file.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert again == replace(stats, seconds={}, waits={}, total_s=0.0, reused=0, peak_bytes=0)


def test_a_shard_of_another_recipe_is_refused(spec, extract):
    extract(spec)
    (record,) = (spec.root.path / "records").iterdir()
    record.write_text(record.read_text().replace('"digest"', '"another"'))
    with pytest.raises(InputError, match="was made from another, and now from digest: choose"):
        extract(spec)


def test_the_record_names_its_inputs(spec, dataset, extract):
    held, _ = extract(spec)
    files = [sha256((dataset / f"{name}.jpg").read_bytes()).digest() for name in "abc"]
    assert held.record(held.shards[0].shard_id).input_sha256 == sha256(b"".join(files)).hexdigest()
    assert held.record(held.shards[0].shard_id).images == {"a": 4, "b": 1, "c": 0}


def test_shards_do_not_depend_on_their_neighbours(spec, extract, table_of):
    """An image's rows are the same whatever else is in its shard."""
    together, _ = extract(spec)
    alone, _ = extract(replace(spec, root=place(spec.root.path.with_name("alone"))), ("b",))
    assert table_of(alone).to_pylist() == table_of(together).slice(4).to_pylist()


@pytest.mark.parametrize("kind", ["windows", "maps"])
def test_an_object_store_gets_the_same_bytes(spec, s3_server, change, kind):
    """And a shard that is committed there is left as it is."""
    del s3_server
    spec = change(spec, store=kind)
    there = replace(spec, root=place(f"s3://{BUCKET}/{uuid.uuid4().hex}"))
    images = pa.table({"image_id": [*"abc"], "windows": [4] * 3, "bytes": [1] * 3})
    (plan,) = plan_shards(images, 1, 10**9, spec.made_from)
    found = []
    for each in (spec, there):
        extractor = ShardExtractor(each)
        first = extractor(plan)
        names = [
            f"{folder}/{name}"
            for folder in ("shards", "maps", "records")
            for name in each.root.listing(folder)
        ]
        found.append({name: each.root.read(name) for name in names})
        assert len(found[-1]) == (3 if kind == "maps" else 2)
        times = commit_times(each.root)
        assert extractor(plan).rows == first.rows
        assert commit_times(each.root) == times
    assert found[0] == found[1]
