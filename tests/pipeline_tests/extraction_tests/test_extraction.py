"""Images and windows to a committed shard, against the same told plainly."""

import math
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d

from pipeline import features, images, index, networks, store
from pipeline.config import Features
from pipeline.datasets.records import ImageRecord
from pipeline.errors import InputError, RecipeError
from pipeline.extraction import ExtractionSpec, NetworkSpec, ShardExtractor, vector_spec
from pipeline.features import window_vectors
from pipeline.store import plan_shards, vectors
from pipeline.store.manifest import claim
from pipeline.store.schema import box_array
from pipeline.windows.table import WINDOWS

SIZES = {"a": (90, 70), "b": (67, 101), "c": (83, 83)}
BOXES = {
    "a": [[0, 0, 90, 70], [3.5, 10, 40, 31], [50, 50, 51, 51], [60, 5, 90, 70]],
    "b": [[10, 20, 67, 101]],
    "c": [],
}
OPTIONS = {"width": 0.0625, "fc_units": 24, "levels": (3, 2, 1), "classes": 3}


@pytest.fixture(autouse=True)
def threads():
    """The extractor sets torch's number of threads; put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def dataset(tmp_path):
    """Three photographs' worth of noise, their list and their windows."""
    random = np.random.default_rng(1)
    records, rows = [], []
    for image_id, (width, height) in SIZES.items():
        path = tmp_path / f"{image_id}.jpg"
        pixels = random.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(path, quality=90)
        records.append(ImageRecord(image_id, path, width, height, ()))
        for number, box in enumerate(BOXES[image_id]):
            rows.append([image_id, number, *map(float, box), "grid"])
    columns = [list(column) for column in zip(*rows, strict=True)]
    arrays = [pa.array(c, f.type) for c, f in zip(columns[:6], list(WINDOWS)[:6], strict=True)]
    arrays.append(pa.array(columns[6]).dictionary_encode())
    (tmp_path / "windows").mkdir()
    pq.write_table(pa.table(arrays, schema=WINDOWS), tmp_path / "windows/0.parquet")
    pq.write_table(index.images_table(records, "test"), tmp_path / "images.parquet")
    return tmp_path


@pytest.fixture
def spec(dataset):
    return ExtractionSpec(
        root=dataset / "store",
        network=NetworkSpec("zf5", None, 3, None, OPTIONS),
        features=Features(scales=(96, 140, 280), levels=(3, 2, 1)),
        images=dataset / "images.parquet",
        windows=dataset / "windows",
        split="test",
        made_from="digest",
    )


def extract(spec, image_ids=("a", "b", "c")):
    """One shard of these images, opened as a store; and its stats."""
    extractor = ShardExtractor(spec)
    counts = [(name, len(BOXES[name]), 1) for name in image_ids]
    (plan,) = plan_shards(counts, 1, 10**9, spec.made_from)
    stats = extractor(plan)
    claim(spec.root, {"made": "for a test"})
    pq.write_table(pq.read_table(spec.images), spec.root / "images.parquet")
    pq.write_table(index.objects_table([], "test"), spec.root / "objects.parquet")
    store.finish(spec.root, [plan.shard_id])
    return store.open(spec.root), stats


def table_of(held):
    return pa.concat_tables(held.scan()).unify_dictionaries()


def change(spec, **changes):
    return replace(spec, features=spec.features.model_copy(update=changes))


# --- the same, told plainly ----------------------------------------------------------------------


def cells(box, factors, map_size):
    """SPEC §3 for ZF-5: stride 16, centre 20, shrink 6.5."""
    found = [0, 0, 0, 0]
    for axis in (0, 1):
        low, high = box[axis] * factors[axis], box[axis + 2] * factors[axis] - 1
        first, last = math.floor((low - 13.5) / 16 + 0.5), math.ceil((high - 26.5) / 16 - 0.5)
        if first > last:
            first = last = math.floor((first + last) / 2)
        found[axis], found[axis + 2] = (
            min(max(cell, 0), map_size[axis] - 1) for cell in (first, last)
        )
    return found


def scale_for(box, size, scales):
    area = (box[2] - box[0]) * (box[3] - box[1])
    return min(scales, key=lambda s: (abs(area * s**2 / min(size) ** 2 - 224**2), s))


@torch.inference_mode()
def plainly(spec, image_id):
    """(scale, pool5) of each window: resize, network, project, pool; one at a time."""
    network = networks.load("zf5", seed=3, **OPTIONS)
    pixels = np.asarray(Image.open(spec.images.parent / f"{image_id}.jpg"))
    found = []
    for box in BOXES[image_id]:
        scale = scale_for(box, SIZES[image_id], spec.features.scales)
        resized, factors = images.resize(pixels, scale)
        feature_map = network(network.preprocessing.apply(resized)[None])[0]
        x0, y0, x1, y1 = cells(box, factors, (feature_map.shape[2], feature_map.shape[1]))
        part = feature_map[:, y0 : y1 + 1, x0 : x1 + 1]
        bins = [adaptive_max_pool2d(part, n).flatten(1) for n in (3, 2, 1)]
        found.append((scale, torch.cat(bins, dim=1).T.flatten()))
    return found


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layout", ["binary", "list"])
def test_vectors_equal_the_plain_way(spec, dtype, layout):
    held, stats = extract(change(spec, vector_dtype=dtype, vector_layout=layout))
    table = table_of(held)
    expected = [one for image_id in SIZES for one in plainly(spec, image_id)]
    assert table["scale_px"].to_pylist() == [scale for scale, _ in expected]
    assert set(table["scale_px"].to_pylist()) == {140, 280}  # or the test would prove little
    wanted = torch.stack([vector for _, vector in expected]).numpy().astype(dtype)
    assert vectors(table).tolist() == wanted.tolist()
    assert np.count_nonzero(wanted) > wanted.size / 10
    assert (stats.rows, stats.images, stats.quarantined) == (5, 3, {})
    assert set(stats.seconds) == {"decode", "network", "pooling", "write"}
    assert set(stats.waits) == {"decode", "write"}


def test_rows_carry_their_window(spec):
    held, _ = extract(spec)
    table = table_of(held)
    assert table["image_id"].to_pylist() == ["a"] * 4 + ["b"]
    assert table["window_id"].to_pylist() == [0, 1, 2, 3, 0]
    assert box_array(table).tolist() == [*BOXES["a"], *BOXES["b"]]
    assert set(table["source"].to_pylist()) == {"grid"}
    assert set(table["split"].to_pylist()) == {"test"}


def test_fc_layers_follow(spec):
    network = networks.load("zf5", seed=3, **OPTIONS)
    pooled = torch.stack([vector for name in "ab" for _, vector in plainly(spec, name)])
    for layer in ("fc6", "fc7"):
        held, _ = extract(
            replace(change(spec, layer=layer, vector_dtype="float32"), root=spec.root / layer)
        )
        assert held.spec.length == 24
        expected = network.fc(pooled, layer).numpy()
        np.testing.assert_allclose(vectors(table_of(held)), expected, rtol=1e-4, atol=1e-5)
        assert np.count_nonzero(expected) > 0


def test_one_image_by_hand_is_the_same(spec):
    held, _ = extract(spec)
    image = images.decode((spec.images.parent / "a.jpg").read_bytes())
    network = networks.load("zf5", seed=3, **OPTIONS)
    found, scales = window_vectors(image, np.array(BOXES["a"], float), network, spec.features)
    assert found.tolist() == vectors(table_of(held))[:4].tolist()
    assert scales.tolist() == table_of(held)["scale_px"].to_pylist()[:4]
    none, scales = window_vectors(image, np.zeros((0, 4)), network, spec.features)
    assert (none.shape, scales.shape) == ((0, 16 * 14), (0,))


@pytest.mark.parametrize(("rule", "scale"), [("area", 205), ("released", 170)])
def test_the_recipe_sets_the_scale_rule(spec, rule, scale):
    # the whole of a, 6,300 px²: 6,300 · (205/70)² = 54,032 is nearer to 224² than 37,157 at 170;
    # but 208 · 70 / √6,300 = 183 is nearer to 170
    held, _ = extract(change(spec, scales=(170, 205), scale_rule=rule), ("a",))
    assert table_of(held)["scale_px"].to_pylist()[0] == scale


def test_a_store_of_maps_gives_the_rows_of_a_store_of_windows(spec):
    held, stats = extract(spec)
    maps, kept = extract(change(replace(spec, root=spec.root.with_name("maps")), store="maps"))
    assert table_of(maps).to_pylist() == table_of(held).to_pylist()
    assert (kept.rows, kept.images) == (stats.rows, stats.images) == (5, 3)
    (file,) = (maps.root / "maps").iterdir()
    rows = pq.read_table(file).select(["image_id", "scale_px", "factor_x", "rows", "cols"])
    # a, 90×70, at 280 is 360×280, four times as large. ZF-5's layers make of 280 px 138, 69, 33
    # and 16 cells, of 360 px 178, 89, 43 and 21
    asked = {(row["image_id"], row["scale_px"]): row for row in rows.to_pylist()}
    assert asked["a", 280]["factor_x"] == 4
    assert (asked["a", 280]["rows"], asked["a", 280]["cols"]) == (16, 21)
    assert sorted(asked) == [("a", 140), ("a", 280), ("b", 140)]  # what some window asks for
    assert maps.verify() == []


def test_windows_on_the_same_cells_share_a_vector(spec, dataset):
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


# --- what cannot be read -------------------------------------------------------------------------


def quarantined(spec, image_id="a"):
    held, stats = extract(spec)
    assert list(stats.quarantined) == [image_id]
    assert stats.images == 2
    assert image_id not in table_of(held)["image_id"].to_pylist()
    (record,) = held.records
    assert record.quarantined == stats.quarantined
    assert image_id not in record.images
    assert held.verify() == []
    return stats.quarantined[image_id]


@pytest.mark.parametrize("kept", [0, 100, 1500])
def test_a_truncated_image(spec, dataset, kept):
    path = dataset / "a.jpg"
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged" in quarantined(spec) or kept == 0


def test_a_missing_file(spec, dataset):
    (dataset / "b.jpg").unlink()
    assert quarantined(spec, "b") == f"there is no file {dataset / 'b.jpg'}"


def test_a_failing_disk_is_not_bad_input(spec, dataset):
    (dataset / "b.jpg").unlink()
    (dataset / "b.jpg").mkdir()  # reading a folder fails, as reading from a broken disk does
    with pytest.raises(IsADirectoryError):
        quarantined(spec, "b")


def test_an_image_that_disagrees_with_its_annotation(spec, dataset):
    Image.new("RGB", (91, 70)).save(dataset / "a.jpg")
    reason = quarantined(spec)
    assert reason == "the file has 91×70 pixels, its annotation says 90×70"


def test_an_image_with_too_many_pixels(spec):
    reason = quarantined(change(spec, max_pixels=6800, scales=(64,)), "c")
    assert reason.startswith("83x83 is 6,889 pixels, more than the 6,800 allowed")


def test_an_image_that_would_grow_too_large(spec):
    # at scale 140 b, 67×101, becomes 140×211 = 29,540; a, 90×70, becomes 180×140 = 25,200
    reason = quarantined(change(spec, max_pixels=29_000, scales=(140,)), "b")
    assert reason.startswith("at scale 140 its 67×101 pixels become 140×211, more than 29,000: set")
    assert "features.max_side_px" in reason


def test_an_image_without_a_single_cell(spec):
    # clamped to 32 px, b's shorter side is 21 px: too few for ZF-5; a's is 25, c's 32
    held, stats = extract(change(spec, max_side_px=32))
    assert sorted(stats.quarantined) == ["a", "b"]
    assert "at scale 140: an image of 21x32 px leaves no cell" in stats.quarantined["b"]
    assert held.verify() == []


def test_a_shard_of_which_nothing_can_be_read(spec, dataset):
    for image_id in SIZES:
        (dataset / f"{image_id}.jpg").unlink()
    held, stats = extract(spec)
    assert (stats.rows, stats.images, len(stats.quarantined)) == (0, 0, 3)
    assert len(held) == 0
    assert held.verify() == []
    assert held.sql("SELECT count(*) AS n FROM windows")["n"].to_pylist() == [0]


# --- committed once ------------------------------------------------------------------------------


def test_two_runs_are_equal_byte_by_byte(spec):
    one, _ = extract(spec)
    other, _ = extract(replace(spec, root=spec.root.with_name("other")))
    for name in ("shards", "records"):
        (file,) = (one.root / name).iterdir()
        assert file.read_bytes() == (other.root / name / file.name).read_bytes()


def test_a_committed_shard_is_left_as_it_is(spec, dataset):
    held, stats = extract(spec)
    (file,) = (held.root / "shards").iterdir()
    before = file.stat()
    (dataset / "a.jpg").unlink()  # it is not even looked at
    _, again = extract(spec)
    after = file.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert again == replace(stats, seconds={}, waits={}, total_s=0.0, reused=0)


def test_a_shard_of_another_recipe_is_made_anew(spec, dataset):
    extract(spec)
    (record,) = (spec.root / "records").iterdir()
    (shard,) = (spec.root / "shards").iterdir()
    record.write_text(record.read_text().replace('"digest"', '"another"'))
    before = shard.stat().st_ino
    extract(spec)
    assert shard.stat().st_ino != before


def test_the_record_names_its_inputs(spec, dataset):
    held, _ = extract(spec)
    files = [sha256((dataset / f"{name}.jpg").read_bytes()).digest() for name in SIZES]
    assert held.records[0].input_sha256 == sha256(b"".join(files)).hexdigest()
    assert held.records[0].images == {"a": 4, "b": 1, "c": 0}


def test_shards_do_not_depend_on_their_neighbours(spec):
    """An image's rows are the same whatever else is in its shard."""
    together, _ = extract(spec)
    alone, _ = extract(replace(spec, root=spec.root.with_name("alone")), ("b",))
    assert table_of(alone).to_pylist() == table_of(together).slice(4).to_pylist()


# --- what cannot be emitted ----------------------------------------------------------------------


def test_a_feature_too_large_for_float16(spec, dataset):
    network = networks.load("zf5", seed=3, **OPTIONS)
    network.conv5.weight *= 1e6
    networks.save(network, dataset / "w.safetensors")
    loud = replace(spec, network=NetworkSpec("zf5", dataset / "w.safetensors"))
    says = r"image a: a feature of \S+ does not fit float16, whose largest is 65504: set .*float32"
    with pytest.raises(InputError, match=says):
        extract(loud)
    assert [path for path in spec.root.rglob("*") if path.is_file()] == []
    held, _ = extract(change(loud, vector_dtype="float32"))
    assert vectors(table_of(held)).max() > 65504


@pytest.mark.parametrize(
    ("store_kind", "map_row", "fails"),
    [("windows", 0, False), ("windows", 2, True), ("maps", 0, True)],
)
def test_a_number_too_large_matters_where_it_is_stored(
    spec, monkeypatch, store_kind, map_row, fails
):
    # b's window begins at y = 20, at scale 140 at 41.8: floor((41.8 - 13.5)/16 + ½) = row 2
    run = features.feature_maps

    def loud(batch, network):
        maps = run(batch, network).clone()
        maps[:, :, map_row] = 70_000
        return maps

    monkeypatch.setattr(features, "feature_maps", loud)
    spec = change(spec, store=store_kind)
    if fails:
        with pytest.raises(InputError, match="image b: a feature of 70000 does not fit float16"):
            extract(spec, ("b",))
    else:
        expected = [vector.half().tolist() for _, vector in plainly(spec, "b")]
        assert vectors(table_of(extract(spec, ("b",))[0])).tolist() == expected


@pytest.mark.parametrize(("row", "image_id"), [(0, "a"), (1, "b")])
def test_the_image_of_a_too_large_vector_is_named_from_a_batch_of_fc(
    spec, monkeypatch, row, image_id
):
    # Batches of three: the first takes three windows of a, the second a's last and b's only one.
    run = networks.Network.fc

    def loud(network, vectors, layer):
        found = run(network, vectors, layer)
        if len(found) == 2:
            found[row] = 70_000
        return found

    monkeypatch.setattr(networks.Network, "fc", loud)
    with pytest.raises(InputError, match=f"image {image_id}: a feature of 70000 does not fit"):
        extract(change(spec, layer="fc7", fc_rows=3))
    assert [path for path in spec.root.rglob("*.parquet") if path.is_file()] == []


def test_low_ranks_are_decomposed_once_and_saved(spec, dataset, monkeypatch):
    file = dataset / "network.safetensors"
    assert spec.network.prepared(file) == spec.network
    low = replace(spec.network, fc6_rank=5, fc7_rank=3, precision="bfloat16")
    prepared = low.prepared(file)
    assert networks.digest(prepared.load()) == networks.digest(low.load())
    written = file.stat().st_mtime_ns
    assert low.prepared(file) == prepared
    assert file.stat().st_mtime_ns == written


def test_layers_that_the_network_does_not_have(spec):
    squeezenet = NetworkSpec("squeezenet1_1", None)
    with pytest.raises(RecipeError, match="squeezenet1_1 has no layer 'fc7': choose among pool5"):
        ShardExtractor(replace(change(spec, layer="fc7"), network=squeezenet))


def test_a_pyramid_that_fc6_does_not_read():
    network = networks.load("zf5", seed=3, **OPTIONS)
    says = r"fc6 of zf5 reads the pyramid \[3, 2, 1\]; features\.levels is \[6, 3, 2, 1\]"
    with pytest.raises(RecipeError, match=says):
        vector_spec(network, Features(layer="fc6"))
    assert vector_spec(network, Features()).length == 16 * 50
    assert vector_spec(network, Features(layer="fc6", levels=(3, 2, 1))).length == 24


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("changes", [{}, {"layer": "fc7"}, {"store": "maps"}])
def test_a_gpu_gives_what_the_cpu_gives(spec, monkeypatch, changes):
    """The only path through streams and events; sums on a card round otherwise."""
    spec = change(spec, **changes)
    on_gpu, _ = extract(replace(spec, root=spec.root.with_name("gpu")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu, _ = extract(replace(spec, root=spec.root.with_name("cpu")))
    found, expected = (vectors(table_of(held)).astype(float) for held in (on_gpu, on_cpu))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
