"""Geometry derived from the layers against geometry measured on the images."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import InputError
from pipeline.networks import Geometry, Network, derive, load, map_size, receptive_field

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


# By hand, block by block: what each layer's kernel adds, times the stride so far.
FIELDS_PX = {
    "zf5": 7 + (2 + 2) * 2 + 4 * 4 + (2 + 2) * 8 + 3 * 2 * 16,  # normalisation, then pooling
    "plain_zf5": 159,
    "vgg16": (1 + 2 + 2) + 1 + (2 + 2) * 2 + 2 + 3 * 2 * 4 + 4 + 3 * 2 * 8 + 8 + 3 * 2 * 16,
    "squeezenet1_1": 3 + 2 * 2 + 2 * 2 * 4 + 2 * 4 + 2 * 2 * 8 + 2 * 8 + 4 * 2 * 16,
    "resnet18": 7 + 2 * 2 + 4 * 2 * 4 + (2 * 4 + 3 * 2 * 8) + (2 * 8 + 3 * 2 * 16)
    + (2 * 16 + 3 * 2 * 32),
    "resnet50": 7 + 2 * 2 + 3 * 2 * 4 + (2 * 4 + 3 * 2 * 8) + (2 * 8 + 5 * 2 * 16)
    + (2 * 16 + 2 * 2 * 32),
}  # fmt: skip


def pixels_that_move(network: Network, width: int, height: int, cell: tuple[int, int]):
    """The box of the pixels that have a gradient."""
    images = torch.ones(1, 3, height, width, requires_grad=True)
    network(images)[0, :, cell[1], cell[0]].sum().backward()
    moved = images.grad[0].abs().sum(0) > 0
    rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
    edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return tuple(edge.item() for edge in edges)


@pytest.mark.parametrize("name", CASES)
def test_derived_receptive_fields_are_the_measured_ones(name):
    options, side, _ = CASES[name]
    network = load(name, **options)
    even = smooth(network)
    width, height = side + 13, side // 3
    columns, rows = network.map_size(width, height)
    for cell in ((columns // 2, rows // 2), (0, 0), (columns - 1, rows - 1)):
        derived = network.receptive_field(cell, width, height)
        assert derived == pixels_that_move(even, width, height, cell)
    first, _, last, _ = network.receptive_field((columns // 2, 0), width, height)
    assert network.receptive_field_px == FIELDS_PX[name] == last - first


@pytest.mark.parametrize(("name", "cell"), [("zf5", (8, 7)), ("resnet18", (9, 8))])
def test_pixels_outside_never_change_a_response_and_those_at_its_border_do(name, cell):
    network, random = load(name, **CASES[name][0], seed=3).double(), torch.Generator()
    random.manual_seed(5)
    images = torch.rand(1, 3, 520, 600, generator=random, dtype=torch.float64) * 4
    x_min, y_min, x_max, y_max = network.receptive_field(cell, 600, 520)
    assert min(x_min, y_min) > 0
    assert (x_max - x_min, y_max - y_min) == (network.receptive_field_px,) * 2
    assert max(x_max - 600, y_max - 520) < 0

    def responses(changed: torch.Tensor) -> torch.Tensor:
        return network(changed)[0, :, cell[1], cell[0]]

    before = responses(images)
    outside = torch.rand(images.shape, generator=random, dtype=torch.float64) * 1000
    outside[..., y_min:y_max, x_min:x_max] = images[..., y_min:y_max, x_min:x_max]
    assert torch.equal(responses(outside), before)
    rows, columns = slice(y_min, y_max), slice(x_min, x_max)
    for at in ((rows, x_min), (rows, x_max - 1), (y_min, columns), (y_max - 1, columns)):
        border = images.clone()
        border[0, :, at[0], at[1]] += 1000
        assert not torch.equal(responses(border), before)


def test_pixels_that_no_cell_reads_are_in_no_receptive_field():
    layers = [nn.Conv2d(3, 1, 3, stride=2), nn.Conv2d(1, 1, 3, padding=1)]
    # Of 10 px the first layer reads 0 to 8, in 4 cells; the last of the second reads two of them.
    assert [receptive_field(layers, (k, 0), 10, 10)[::2] for k in range(4)] == [
        (0, 5), (0, 7), (2, 9), (4, 9)
    ]  # fmt: skip


def test_a_cell_that_is_not_there_has_no_receptive_field():
    with pytest.raises(InputError, match=r"224x180 px has 13x10 cells, and none is \(13, 0\)"):
        load("zf5", width=0.1, fc_units=8).receptive_field((13, 0), 224, 180)
