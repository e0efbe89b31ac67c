"""Images of one size together through the network, rows of several images through the fc layers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import features, index, networks
from pipeline.extraction import ShardExtractor, grouping
from pipeline.store import vectors


@pytest.fixture
def spec(twelve):
    return twelve


class Sized:
    """An image of which only the size is known."""

    def __init__(self, sizes):
        self.sizes = sizes


@pytest.mark.parametrize(
    ("sizes", "most", "groups"),
    [
        ("aabaa", 1, ["a", "a", "b", "a", "a"]),
        ("aabaa", 2, ["aa", "b", "aa"]),
        ("aaaaa", 2, ["aa", "aa", "a"]),
        ("aaabbb", 5, ["aaa", "bbb"]),
        ("", 3, []),
    ],
)
def test_images_of_one_size_one_after_the_other_are_a_group(sizes, most, groups):
    found = grouping.of_one_size(map(Sized, sizes), most)
    assert ["".join(image.sizes for image in group) for group in found] == groups


@pytest.mark.parametrize(
    ("sizes", "most", "groups"),
    [
        ("abaab", 2, ["aa", "a", "bb"]),
        ("abc", 4, ["a", "b", "c"]),
        ("", 3, []),
    ],
)
def test_images_of_one_size_wherever_they_stand_are_a_group(sizes, most, groups):
    found = grouping.of_equal_sizes(map(Sized, sizes), most)
    assert ["".join(image.sizes for image in group) for group in found] == groups


def vectors_of(spec):
    (file,) = (spec.root.path / "shards").iterdir()
    return vectors(pq.read_table(file))


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_fc_batches_of_any_size_give_the_same_vectors(spec, rows, change, plans_of):
    """Of one row, of some that cut images in two, and of all."""
    spec = change(spec, layer="fc7", vector_dtype="float32", fc_rows=rows)
    ShardExtractor(spec)(*plans_of(1))
    network = networks.load("zf5", seed=3, **spec.network.options)
    tables = pq.read_table(spec.windows / "0.parquet").to_pylist()
    expected = []
    for row in pq.read_table(spec.images).to_pylist():
        boxes = [
            [one[name] for name in ("x_min", "y_min", "x_max", "y_max")]
            for one in tables
            if one["image_id"] == row["image_id"]
        ]
        pixels = np.asarray(Image.open(row["file"]))
        given = np.array(boxes, float).reshape(-1, 4)
        expected.append(features.window_vectors(pixels, given, network, spec.features)[0])
    assert vectors_of(spec).tolist() == np.concatenate(expected).tolist()


def test_each_fc_batch_but_the_last_is_full(spec, monkeypatch, change, plans_of):
    counted = []
    fc = networks.Network.fc

    def watched(network, vectors, layer):
        counted.append(len(vectors))
        return fc(network, vectors, layer)

    monkeypatch.setattr(networks.Network, "fc", watched)
    stats = ShardExtractor(change(spec, layer="fc7"))(*plans_of(1))
    assert stats.reused > 0  # or the test would prove less
    assert sum(counted) == stats.rows - stats.reused
    assert set(counted[:-1]) == {7}


def test_images_together_through_the_network(spec, change, plans_of):
    for per_batch, name in ((1, "alone"), (4, "together")):
        each = replace(change(spec, images_per_batch=per_batch), root=spec.root / name)
        ShardExtractor(each)(*plans_of(1))
    alone, together = (vectors_of(replace(spec, root=spec.root / n)) for n in ("alone", "together"))
    np.testing.assert_allclose(alone, together, rtol=2e-3, atol=2e-3)


def test_whole_images_of_equal_size_go_together_and_are_written_in_their_order(
    spec, change, plans_of, monkeypatch
):
    """Every other image is turned on its side, and still there are two groups."""
    rows = pq.read_table(spec.images).to_pylist()
    for row in rows[1::2]:
        turned = np.asarray(Image.open(row["file"])).swapaxes(0, 1)
        Image.fromarray(np.ascontiguousarray(turned)).save(row["file"])
        row["width"], row["height"] = row["height"], row["width"]
        row["bytes"], row["modified_ns"] = index.file_state(Path(row["file"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=index.IMAGES), spec.images)
    windows = pq.read_table(spec.windows / "0.parquet")
    sizes = {row["image_id"]: (row["width"], row["height"]) for row in rows}
    first = windows.filter(pc.equal(windows["window_id"], 0)).to_pylist()
    for row in first:
        row |= {"x_min": 0.0, "y_min": 0.0}
        row["x_max"], row["y_max"] = map(float, sizes[row["image_id"]])
    pq.write_table(pa.Table.from_pylist(first, schema=windows.schema), spec.windows / "0.parquet")
    seen = []
    run = features.feature_maps

    def watched(images, network):
        seen.append(len(images))
        return run(images, network)

    monkeypatch.setattr(features, "feature_maps", watched)
    whole = {"view": "full", "scales": (200,)}
    for per_batch, name in ((1, "alone"), (6, "together")):
        seen.clear()
        each = change(spec, images_per_batch=per_batch, **whole)
        ShardExtractor(replace(each, root=spec.root / name))(*plans_of(1))
    alone, together = (vectors_of(replace(spec, root=spec.root / n)) for n in ("alone", "together"))
    assert len(seen) == 2
    assert sum(seen) == len(alone) > 4
    np.testing.assert_allclose(alone, together, rtol=2e-3, atol=2e-3)
