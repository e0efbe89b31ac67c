"""Networks in bfloat16: what goes in, what comes out, and how far from float32 it is."""

import pytest
import torch

from pipeline.errors import RecipeError
from pipeline.networks import digest, load, lrn, save
from pipeline.spp import SpatialPyramidPooling

SMALL = {"width": 0.25, "fc_units": 64}


def relative_error(ours, exact):
    return ((ours.double() - exact.double()).norm() / exact.double().norm()).item()


@pytest.mark.parametrize("name", ["zf5", "vgg16", "resnet18", "squeezenet1_1"])
def test_float32_goes_in_and_bfloat16_comes_out(name):
    options = {"zf5": SMALL, "vgg16": {"fc_units": 8}}.get(name, {})
    network = load(name, precision="bfloat16", **options)
    assert network.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in network.parameters()} == {torch.bfloat16}
    maps = network(torch.randn(1, 3, 70, 90))
    assert maps.dtype == torch.bfloat16
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert load(name, **options).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fc_takes_vectors_of_any_float(precision, dtype):
    network = load("zf5", precision=precision, **SMALL)
    vectors = torch.rand(3, network.layer_size("pool5")).to(dtype)
    assert network.fc(vectors, "fc7").dtype == network.dtype
    assert network.fc(vectors, "pool5") is vectors


def test_the_loss_is_that_of_rounding():
    # Each of the seven layers rounds its inputs and outputs to 8 bits: errors of 2^-9 / sqrt(3)
    # for each of the two, and of the weights, 0.2%, and independent, so that seven layers come to
    # 0.2% * sqrt(7) = 0.5%. ReLU and max keep an error where they drop half of the values; with
    # that 1%, and 3% would be a layer that loses more than the others.
    exact, half = load("zf5", **SMALL), load("zf5", precision="bfloat16", **SMALL)
    images = torch.randn(1, 3, 200, 250, generator=torch.Generator().manual_seed(0))
    pyramid = SpatialPyramidPooling((6, 3, 2, 1))
    pooled, rounded = pyramid(exact(images)), pyramid(half(images))
    assert 1e-3 < relative_error(rounded, pooled) < 0.03
    assert 1e-3 < relative_error(half.fc(rounded, "fc7"), exact.fc(pooled, "fc7")) < 0.03


def test_normalisation_loses_no_more_than_its_last_rounding(monkeypatch):
    monkeypatch.setattr(lrn, "ALPHA", 0.01)
    maps = 10 * torch.randn(1, 5, 20, 20, generator=torch.Generator().manual_seed(0)).bfloat16()
    layer = lrn.LocalResponseNorm()
    ours, exact = layer(maps), layer(maps.double())
    assert ours.dtype == torch.bfloat16
    assert ((ours.double() - exact).abs() <= exact.abs() * 2**-8).all()  # half of the last bit


def test_precision_is_a_matter_of_loading(tmp_path):
    path = tmp_path / "a.safetensors"
    save(load("zf5", **SMALL), path)
    exact, half = load("zf5", path), load("zf5", path, precision="bfloat16")
    assert digest(exact) != digest(half)
    assert half.options == exact.options
    save(half, path)
    assert digest(load("zf5", path, precision="bfloat16")) == digest(half)
    with pytest.raises(RecipeError, match="'float16': choose among float32, bfloat16"):
        load("zf5", precision="float16")
