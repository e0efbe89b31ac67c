"""Whole images: all of one, or its central square, with the pyramid over the entire map."""

import numpy as np
import pytest
import torch

from pipeline import networks
from pipeline.config import Features
from pipeline.features import prepare, window_vectors
from pipeline.images import UndecodableImage, resize
from pipeline.networks import ARCHITECTURES
from pipeline.spp import SpatialPyramidPooling

IMAGE = np.random.default_rng(0).integers(0, 255, (61, 83, 3), np.uint8)
WHOLE = np.array([[0.0, 0, 83, 61]])
FULL = Features(view="full", scales=(97,), levels=(3, 1), vector_dtype="float32")
CROP = FULL.model_copy(update={"view": "crop", "crop_px": 80})


@pytest.fixture(scope="module")
def network():
    return networks.load("zf5", width=0.0625, fc_units=8, levels=(3, 1), seed=3)


def pooled(network, pixels, levels=(3, 1)):
    """What the network's own classifier would see: SPP over the entire map."""
    with torch.inference_mode():
        batch = network.preprocessing.apply(np.ascontiguousarray(pixels))[None]
        return SpatialPyramidPooling(levels)(network(batch))[0].numpy()


def test_full_is_the_pyramid_over_the_entire_map(network):
    vectors, scales = window_vectors(IMAGE, WHOLE, network, FULL)
    pixels, _ = resize(IMAGE, 97)
    assert (pixels.shape, scales.tolist()) == ((97, 132, 3), [97])
    assert np.array_equal(vectors[0], pooled(network, pixels))


def test_crop_is_the_middle_of_the_resized_image(network):
    vectors, _ = window_vectors(IMAGE, WHOLE, network, CROP)
    pixels, _ = resize(IMAGE, 97)
    middle = pixels[8:88, 26:106]  # 97 - 80 leaves 17: 8 above; 132 - 80 leaves 52
    assert np.array_equal(vectors[0], pooled(network, middle))
    full, _ = window_vectors(IMAGE, WHOLE, network, FULL)
    assert not np.array_equal(vectors, full)


def test_fc_layers_see_what_they_were_trained_on(network):
    vectors, _ = window_vectors(IMAGE, WHOLE, network, FULL.model_copy(update={"layer": "fc7"}))
    pixels, _ = resize(IMAGE, 97)
    expected = network.fc(torch.from_numpy(pooled(network, pixels))[None], "fc7")
    assert np.array_equal(vectors, expected.numpy())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [(240, 321), (225, 224)])
def test_no_cell_is_left_out_whatever_the_network(name, size):
    levels = {} if name in ("plain_zf5",) else {"levels": (1,)}
    settings = Features(view="full", scales=(min(size),), **levels)
    network = networks.outline(name)
    network.preprocessing = networks.PRESETS["imagenet_rgb"]
    image = np.zeros((*size, 3), np.uint8)
    _, _, distinct = prepare(image, np.array([[0.0, 0, size[1], size[0]]]), network, settings)
    assert distinct.cells[0].tolist() == [[0, 0, *network.map_size(size[1], size[0])]]


def test_an_image_without_a_window_has_no_vector(network):
    vectors, _ = window_vectors(IMAGE, np.zeros((0, 4)), network, FULL)
    assert vectors.shape == (0, 160)


def test_a_long_thin_image_that_is_clamped_has_no_square(network):
    thin = np.zeros((20, 400, 3), np.uint8)
    settings = CROP.model_copy(update={"max_side_px": 100})
    with pytest.raises(UndecodableImage, match=r"max_side_px leaves 100×5 pixels .*crop_px = 80"):
        window_vectors(thin, np.array([[0.0, 0, 400, 20]]), network, settings)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scales": (97, 200)}, "sees an image at one scale, and features.scales has 2"),
        ({"mode": "warp"}, 'mode = "warp" is for windows'),
        ({"store": "maps"}, 'store = "maps" is for windows'),
        ({"view": "crop", "crop_px": 98}, "crop_px = 98 does not fit"),
    ],
)
def test_settings_that_contradict_each_other(changes, told):
    with pytest.raises(ValueError, match=told):
        Features.model_validate(FULL.model_dump() | changes)
