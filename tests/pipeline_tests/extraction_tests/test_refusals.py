"""What cannot be read is quarantined; what cannot be emitted is refused."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline import features, images, networks
from pipeline.config import Features
from pipeline.errors import InputError, RecipeError, UnreachableError
from pipeline.extraction import NetworkSpec, ShardExtractor, vector_spec
from pipeline.store import vectors

# --- what cannot be read -------------------------------------------------------------------------


@pytest.fixture
def quarantined(extract, table_of):
    def reason(spec, image_id="a"):
        """Why the image was left out, with all that goes with it checked."""
        held, stats = extract(spec)
        assert list(stats.quarantined) == [image_id]
        assert stats.images == 2
        assert image_id not in table_of(held)["image_id"].to_pylist()
        (entry,) = held.shards
        record = held.record(entry.shard_id)
        assert record.quarantined == stats.quarantined
        assert image_id not in record.images
        assert held.verify() == []
        return stats.quarantined[image_id]

    return reason


@pytest.mark.parametrize("kept", [0, 100, 1500])
def test_a_truncated_image(spec, dataset, kept, quarantined, relist):
    path = dataset / "a.jpg"
    path.write_bytes(path.read_bytes()[:kept])
    relist()
    assert "damaged" in quarantined(spec) or kept == 0


def test_a_missing_file(spec, dataset, quarantined, relist):
    (dataset / "b.jpg").unlink()
    relist()
    assert quarantined(spec, "b") == f"there is no file {dataset / 'b.jpg'}"


def test_a_file_that_is_gone_since_the_dataset_was_read_may_come_back(spec, dataset, extract):
    path, size = dataset / "b.jpg", (dataset / "b.jpg").stat().st_size
    path.rename(dataset / "away")
    with pytest.raises(
        UnreachableError, match=f"image b: {path} is not there any more, .* {size} bytes"
    ):
        extract(spec)
    (dataset / "away").rename(path)
    _, stats = extract(spec)
    assert (stats.images, stats.quarantined) == (3, {})


def test_a_file_that_is_gone_for_the_moment_of_its_reading(spec, dataset, extract, monkeypatch):
    """As a share that is mounted again: it is there when it is looked for, and was not found."""
    read = images.read

    def gone(path):
        if path.name == "b.jpg":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return read(path)

    monkeypatch.setattr(images, "read", gone)
    with pytest.raises(UnreachableError, match=r"image b: .*b\.jpg is not there any more"):
        extract(spec)
    assert not list((dataset / "store").rglob("*.*"))


def test_a_failing_disk_is_not_bad_input(spec, quarantined, monkeypatch):
    def fails(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(images, "read", fails)
    with pytest.raises(OSError, match="Input/output error"):
        quarantined(spec, "b")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file(spec, dataset, quarantined, relist, make):
    (dataset / "b.jpg").unlink()
    make(dataset / "b.jpg")
    relist()
    assert quarantined(spec, "b") == "it is no file, but a folder, a pipe or a device"


def test_a_file_that_is_too_large_is_not_read(spec, dataset, quarantined, relist):
    with (dataset / "b.jpg").open("r+b") as file:
        file.truncate(images.MAX_FILE_BYTES + 1)  # no byte of it takes room on the disk
    relist()
    assert "1,073,741,825 bytes, more than the 1,073,741,824" in quarantined(spec, "b")


def test_an_image_that_disagrees_with_its_annotation(spec, dataset, quarantined, relist):
    Image.new("RGB", (91, 70)).save(dataset / "a.jpg")
    relist()
    reason = quarantined(spec)
    assert reason == "the file has 91×70 pixels, its annotation says 90×70"


@pytest.mark.parametrize("restore_time", [False, True])
def test_an_image_that_changed_since_the_dataset_was_read(spec, dataset, extract, restore_time):
    path = dataset / "a.jpg"
    before = path.stat()
    # Other bytes of the same number, or of another one at the same time: either is enough.
    path.write_bytes(path.read_bytes()[::-1] + b"\0" * restore_time)
    os.utime(path, ns=(0, before.st_mtime_ns + (not restore_time) * 1000))
    sizes = f"had {before.st_size} bytes of .* and has {before.st_size + restore_time} bytes of "
    with pytest.raises(InputError, match=f"image a changed .*a.jpg {sizes}"):
        extract(spec)
    assert not list((dataset / "store").rglob("*.*"))


def test_an_image_with_too_many_pixels(spec, change, quarantined):
    reason = quarantined(change(spec, max_pixels=6800, scales=(64,)), "c")
    assert reason.startswith("83x83 is 6,889 pixels, more than the 6,800 allowed")


def test_an_image_that_would_grow_too_large(spec, change, quarantined):
    # at scale 140 b, 67×101, becomes 140×211 = 29,540; a, 90×70, becomes 180×140 = 25,200
    reason = quarantined(change(spec, max_pixels=29_000, scales=(140,)), "b")
    assert reason.startswith("at scale 140 its 67×101 pixels become 140×211, more than 29,000: set")
    assert "features.max_side_px" in reason


def test_an_image_without_a_single_cell(spec, extract, change):
    # clamped to 32 px, b's shorter side is 21 px: too few for ZF-5; a's is 25, c's 32
    held, stats = extract(change(spec, max_side_px=32))
    assert sorted(stats.quarantined) == ["a", "b"]
    assert "at scale 140: an image of 21x32 px leaves no cell" in stats.quarantined["b"]
    assert held.verify() == []


def test_a_shard_of_which_nothing_can_be_read(spec, dataset, relist, extract):
    for image_id in "abc":
        (dataset / f"{image_id}.jpg").unlink()
    relist()
    held, stats = extract(spec)
    assert (stats.rows, stats.images, len(stats.quarantined)) == (0, 0, 3)
    assert len(held) == 0
    assert held.verify() == []
    assert held.sql("SELECT count(*) AS n FROM windows")["n"].to_pylist() == [0]


def test_weights_that_are_not_those_of_the_run(spec, dataset, extract):
    whole = networks.load("zf5", seed=3, **spec.network.options)
    path = dataset / "w.safetensors"
    networks.save(whole, path)
    network = replace(spec.network, weights=path, options={})
    spec = replace(spec, network=network, network_digest=networks.digest(whole))
    extract(spec)
    networks.save(networks.load("zf5", seed=4, **spec.network.options, **{"width": 0.0625}), path)
    with pytest.raises(InputError, match=f"w.safetensors .* began with {spec.network_digest[:12]}"):
        ShardExtractor(spec)


# --- what cannot be emitted ----------------------------------------------------------------------


def test_a_feature_too_large_for_float16(spec, dataset, extract, table_of, change):
    network = networks.load("zf5", seed=3, **spec.network.options)
    network.conv5.weight *= 1e6
    networks.save(network, dataset / "w.safetensors")
    loud = replace(spec, network=NetworkSpec("zf5", dataset / "w.safetensors"))
    says = r"image a: a feature of \S+ does not fit float16, whose largest is 65504: set .*float32"
    with pytest.raises(InputError, match=says):
        extract(loud)
    assert [path for path in spec.root.path.rglob("*") if path.is_file()] == []
    held, _ = extract(change(loud, vector_dtype="float32"))
    assert vectors(table_of(held)).max() > 65504


@pytest.mark.parametrize(
    ("store_kind", "map_row", "fails"),
    [("windows", 0, False), ("windows", 2, True), ("maps", 0, True)],
)
def test_a_number_too_large_matters_where_it_is_stored(
    spec, monkeypatch, store_kind, map_row, fails, extract, table_of, change, plainly
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
    spec, monkeypatch, row, image_id, extract, change
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
    assert [path for path in spec.root.path.rglob("*.parquet") if path.is_file()] == []


def test_layers_that_the_network_does_not_have(spec, change):
    squeezenet = NetworkSpec("squeezenet1_1", None)
    with pytest.raises(RecipeError, match="squeezenet1_1 has no layer 'fc7': choose among pool5"):
        ShardExtractor(replace(change(spec, layer="fc7"), network=squeezenet))


def test_a_pyramid_that_fc6_does_not_read(spec):
    network = networks.load("zf5", seed=3, **spec.network.options)
    says = r"fc6 of zf5 reads the pyramid \[3, 2, 1\]; features\.levels is \[6, 3, 2, 1\]"
    with pytest.raises(RecipeError, match=says):
        vector_spec(network, Features(layer="fc6"))
    assert vector_spec(network, Features()).length == 16 * 50
    assert vector_spec(network, Features(layer="fc6", levels=(3, 2, 1))).length == 24
