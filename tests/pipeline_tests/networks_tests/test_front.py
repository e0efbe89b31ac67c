"""The first layers of a network as a network of their own."""

import numpy as np
import pytest
import torch

from pipeline import networks
from pipeline.config import Features
from pipeline.errors import RecipeError
from pipeline.extraction import NetworkSpec
from pipeline.features import window_vectors
from pipeline.networks.front import until


@pytest.fixture(scope="module")
def zf5():
    return networks.load("zf5", width=0.0625, fc_units=8, seed=3)


def test_maps_are_the_layers_after_its_relu(zf5):
    images = torch.randn(1, 3, 97, 130, generator=torch.Generator().manual_seed(0))
    front = until(zf5, "conv4")
    with torch.inference_mode():
        found = front(images)
        x = images
        for layer in list(zf5.path())[:12]:
            x = layer(x)
    assert torch.allclose(found, x, atol=1e-5)
    assert (found >= 0).all()
    assert tuple(found.shape[1:]) == (front.channels, *front.map_size(130, 97)[::-1])
    assert front.layers == ("pool5",)
    assert front.geometry.stride == 16
    assert networks.digest(front) != networks.digest(zf5)


def test_as_many_bins_as_cells_are_the_map_itself(zf5):
    front = until(zf5, "conv4")
    settings = Features(view="crop", scales=(224,), levels=(13,), vector_dtype="float32")
    image = np.random.default_rng(0).integers(0, 255, (230, 260, 3), np.uint8)
    vectors, _ = window_vectors(image, np.array([[0.0, 0, 260, 230]]), front, settings)
    assert vectors.shape == (1, 13 * 13 * 24)
    resized = settings.model_copy(update={"levels": (1,)})
    largest, _ = window_vectors(image, np.array([[0.0, 0, 260, 230]]), front, resized)
    assert np.array_equal(vectors.reshape(169, 24).max(axis=0), largest[0])


def test_it_is_saved_and_loaded_without_being_told(zf5, tmp_path):
    front = until(zf5, "conv3")
    networks.save(front, tmp_path / "front.safetensors")
    again = networks.load("zf5", tmp_path / "front.safetensors")
    assert networks.digest(again) == networks.digest(front)
    assert until(again, "conv3") is again
    spec = NetworkSpec("zf5", tmp_path / "front.safetensors", upto="conv3")
    assert networks.digest(spec.load()) == networks.digest(front)
    assert spec.outline(front.preprocessing).channels == front.channels


def test_a_layer_that_it_has_not(zf5):
    with pytest.raises(RecipeError, match=r"zf5 has no layer 'fc6' .* conv1, conv2, conv3, conv4"):
        until(zf5, "fc6")
