"""Geometry derived from the layers against geometry measured on the images."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import InputError
from pipeline.networks import Geometry, Network, derive, load, map_size

# Small heads: only the layers before them are looked at. The image side is larger than the
# receptive field plus two strides, so that at least two cells are free of the border.
CASES = {
    "zf5": ({"width": 0.1, "fc_units": 8}, 240, Geometry(16, 20.0, 6.5)),
    "plain_zf5": ({"width": 0.1, "fc_units": 8}, 240, Geometry(16, 20.0, 6.5)),
    "vgg16": ({"fc_units": 8}, 260, Geometry(16, 7.5)),
    "squeezenet1_1": ({}, 320, Geometry(16, 15.0)),
    "resnet18": ({}, 576, Geometry(32, 0.0)),
    "resnet50": ({}, 640, Geometry(32, 0.0)),
}


def smooth(network: Network) -> Network:
    """The same layers, made so that every pixel in a cell's receptive field moves the cell."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(
                    child.kernel_size, child.stride, child.padding, ceil_mode=child.ceil_mode
                )
                setattr(module, name, average)
    for name, tensor in network.named_parameters():
        tensor.fill_(1.0 / tensor[0].numel() if tensor.ndim > 1 else float("weight" in name))
    return network


def centre_of_pixels_that_move(network: Network, side: int, row: int, column: int):
    images = torch.ones(1, 3, side, side, requires_grad=True)
    network(images)[0, :, row, column].sum().backward()
    moved = images.grad[0].abs().sum(0) > 0
    rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
    assert rows[0] > 0, "the receptive field meets the border: enlarge the image"
    assert columns[-1] < side - 1
    return (rows[0] + rows[-1]).item() / 2, (columns[0] + columns[-1]).item() / 2


@pytest.mark.parametrize("name", CASES)
def test_derived_geometry_is_the_measured_one(name):
    options, side, expected = CASES[name]
    network = load(name, **options)
    assert network.geometry == expected
    middle = round((side / 2 - expected.centre) / expected.stride)
    measured = centre_of_pixels_that_move(smooth(network), side, middle, middle - 1)
    assert measured == (
        expected.centre + expected.stride * middle,
        expected.centre + expected.stride * (middle - 1),
    )


@pytest.mark.parametrize("name", CASES)
def test_derived_map_size_and_channels_are_the_measured_ones(name):
    network = load(name, **CASES[name][0])
    for height, width in ((97, 131), (113, 96)):
        maps = network(torch.zeros(1, 3, height, width))
        assert network.map_size(width, height) == (maps.shape[3], maps.shape[2])
        assert network.channels == maps.shape[1]


@pytest.mark.parametrize(("pixels", "cells"), [(224, 13), (180, 10), (688, 42)])
def test_zf5_sizes_of_the_paper(pixels, cells):
    network = load("zf5", width=0.1, fc_units=8)
    assert network.map_size(pixels, pixels) == (cells, cells)


@settings(deadline=None, max_examples=50)
@given(
    length=st.integers(1, 60),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    ceil=st.booleans(),
)
def test_map_size_of_any_pool_is_torchs(length, kernel, stride, padding, ceil):
    pool = nn.MaxPool2d(kernel, stride, min(padding, kernel // 2), ceil_mode=ceil)
    if length + 2 * pool.padding < kernel:
        return
    expected = pool(torch.zeros(1, 1, length, length)).shape[-1]
    assert map_size([pool], length, length) == (expected, expected)


def test_an_image_too_small_for_one_cell_is_named():
    with pytest.raises(InputError, match="9x300 px"):
        load("zf5", width=0.1, fc_units=8).map_size(9, 300)


@pytest.mark.parametrize("layer", [nn.Linear(2, 2), nn.Conv2d(1, 1, 3, dilation=2)])
def test_a_layer_of_unknown_geometry_is_refused(layer):
    with pytest.raises(TypeError, match="geometry"):
        derive([layer])
