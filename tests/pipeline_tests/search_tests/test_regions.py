"""Vectors of boxes that nobody extracted are those that an extraction of them would store."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.extraction import ShardExtractor
from pipeline.networks import digest
from pipeline.search import region_vectors
from pipeline.search.asking import region
from pipeline.store import ShardPlan, claim, finish
from pipeline.store.labels import write_labels
from pipeline.store.maps import ShardMaps
from pipeline.store.place import place
from pipeline.store.rows import Vectors
from pipeline.store.schema import box_array, vectors
from tests.noise import dataset

OTHER = [[7.25, 3.0, 61.5, 44.0], [0.0, 0.0, 90.0, 70.0], [30.0, 30.0, 40.0, 39.0]]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def network(spec):
    return spec.network.load()


@pytest.fixture(scope="module", params=["windows", "maps"])
def held(request, spec, network):
    """A store of three of the images, as a run leaves it."""
    root = place(spec.images.parent / f"store of {request.param}")
    features = spec.features.model_copy(update={"store": request.param})
    made = {"network": digest(network), "features": features.model_dump(mode="json")}
    claim(root, made)
    extract = ShardExtractor(replace(spec, root=root, features=features))
    extract(ShardPlan("00000", ("00", "01"), 14, 1))
    extract(ShardPlan("00001", ("02",), 7, 1))
    listed = pq.read_table(spec.images).slice(0, 3)
    write_labels(root, "images.parquet", listed.drop_columns("modified_ns"))
    finish(root, ["00000", "00001"])
    return store.open(root)


def test_a_stored_window_is_read(held):
    rows = pa.concat_tables(held.scan()).to_pylist()
    table = pa.concat_tables(held.scan(["image_id", "x_min", "y_min", "x_max", "y_max", "vector"]))
    inside = np.array([row["image_id"] == "01" for row in rows])
    found = region_vectors(held, "01", box_array(table)[inside][[4, 2, 2]])
    assert np.array_equal(found.vectors, vectors(table)[inside][[4, 2, 2]])


def test_any_box_has_the_vector_of_an_extraction(held, spec, network):
    # Of the second scale no window may have asked: then there is no map, and the network runs.
    expected = region_vectors(held, spec.images.parent / "02.png", OTHER, lambda: network)
    found = region_vectors(held, "02", OTHER, lambda: network)
    assert np.array_equal(found.vectors, expected.vectors)
    assert np.array_equal(found.scale_px, expected.scale_px)
    assert set(found.scale_px) <= {96, 140}


def test_a_store_of_maps_needs_no_network(held):
    box = OTHER[:1]
    if held.kind == "windows":
        with pytest.raises(InputError, match="no vector of this box of 02: name the store as REC"):
            region_vectors(held, "02", box)
    else:
        assert region_vectors(held, "02", box).vectors.shape == (1, held.spec.length)


def test_what_is_looked_for_is_pooled_or_made_where_it_can_be(held, network):
    wanted = region(held, Vectors(held), "02", OTHER[0], lambda: network)
    assert np.array_equal(
        wanted.vector, region_vectors(held, "02", OTHER[:1], lambda: network).vectors[0]
    )
    assert (wanted.image, wanted.box, wanted.instead_of) == ("02", tuple(OTHER[0]), ())


def test_all_of_a_file(held, spec, network):
    file = spec.images.parent / "05.png"  # no image of the store
    found = region_vectors(held, file, None, lambda: network)
    assert np.array_equal(
        found.vectors, region_vectors(held, file, [[0, 0, 90, 70]], lambda: network).vectors
    )


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [-1, 0, 9, 9], [0, 0, 90.5, 9], [9, 9, 2, 2], [0, np.nan, 9, 9]]
)
def test_a_box_that_is_none_is_refused(held, box):
    with pytest.raises(InputError, match=r"is empty or not inside image 02, which has 90×70"):
        region_vectors(held, "02", [box])


def test_what_is_no_image_is_refused(held, spec, network):
    with pytest.raises(InputError, match="nothere is no image of"):
        region_vectors(held, "nothere", OTHER)
    broken = spec.images.parent / "text.jpg"
    broken.write_text("no image")
    with pytest.raises(InputError, match=r"text\.jpg"):
        region_vectors(held, broken, None, lambda: network)


def test_another_network_is_refused(held, spec):
    other = replace(spec.network, seed=4).load()
    with pytest.raises(InputError, match=r"was made by the network .* give the recipe"):
        region_vectors(held, spec.images.parent / "05.png", OTHER, lambda: other)


def never():
    raise AssertionError("the network was loaded, and nothing needs it")


def test_a_network_is_loaded_only_where_it_is_needed(held):
    table = next(held.scan(["x_min", "y_min", "x_max", "y_max"]))
    stored = box_array(table)[3].tolist()
    assert region(held, Vectors(held), "00", stored, never).box == tuple(stored)
    boxes = OTHER[:1]
    if held.kind == "maps":
        assert region_vectors(held, "02", boxes, never).vectors.shape == (1, held.spec.length)
    else:
        with pytest.raises(AssertionError, match="was loaded"):
            region_vectors(held, "02", boxes, never)


@pytest.mark.parametrize("held", ["maps"], indirect=True)
def test_a_scale_that_no_window_asked_for_is_named(held, monkeypatch):
    box = OTHER[:1]
    (scale_px,) = region_vectors(held, "02", box).scale_px.tolist()
    other = {96: 140, 140: 96}[scale_px]
    monkeypatch.setattr(ShardMaps, "scales_of", lambda self, image_id: {other})
    with pytest.raises(
        InputError,
        match=rf"asks for scale {scale_px}, and .* has maps at {other} of image 02, .*: name the "
        r"store as RECIPE.*or take a stored window$",
    ):
        region_vectors(held, "02", [*box, *box])
