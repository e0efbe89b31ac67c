"""Layers strip by strip against the same layers one after another."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import InputError
from pipeline.networks import Network, compiled, load, lrn, strips

POOL = nn.MaxPool2d(3, stride=2, ceil_mode=True)


@pytest.fixture(autouse=True)
def strips_of_one_row(monkeypatch):
    monkeypatch.setattr(strips, "STRIP_BYTES", 1)


def conv_of(filters, kernel, stride, padding):
    torch.manual_seed(0)
    return nn.Conv2d(3, filters, kernel, stride, padding).requires_grad_(False)


def test_by_hand_on_whole_numbers(monkeypatch):
    # alpha/9 = 1, and every 3x3 sum of squares is 15 or 255: 1 + 15 = 2^4 and 1 + 255 = 2^8, whose
    # powers of -3/4 are 1/8 and 1/64
    monkeypatch.setattr(lrn, "ALPHA", 9.0)
    image = torch.zeros(1, 1, 7, 7)
    image[0, 0, 1, 1], image[0, 0, 1, 5] = 15**0.5, -99.0
    image[0, 0, 5, 1] = image[0, 0, 5, 6] = 255**0.5
    same = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
    same.weight.fill_(1.0)
    pooled = strips.conv_pool(same, POOL, image, normalise=True)
    # the windows are rows and columns 0-2, 2-4, 4-6; -99 becomes zero before it is squared
    expected = torch.zeros(1, 1, 3, 3)
    expected[0, 0, 0, 0], expected[0, 0, 2, [0, 2]] = 15**0.5 / 8, 255**0.5 / 64
    torch.testing.assert_close(pooled, expected, rtol=5e-7, atol=0)
    assert strips.conv_pool(same, POOL, image, normalise=False)[0, 0, 2, 0] == 255**0.5


@pytest.mark.parametrize("strip_bytes", [1, 3000, 10**9])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 7, 7), (2, 3, 29, 18), (1, 3, 24, 37)])
@pytest.mark.parametrize("conv", [(5, 7, 2, 1), (5, 3, 2, 0), (2, 5, 1, 2)])
def test_equals_the_layers_one_after_another(monkeypatch, conv, shape, normalise, strip_bytes):
    monkeypatch.setattr(strips, "STRIP_BYTES", strip_bytes)
    conv = conv_of(*conv)
    images = 100 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    maps = functional.relu(conv(images))
    expected = POOL(lrn.LocalResponseNorm()(maps) if normalise else maps)
    pooled = strips.conv_pool(conv, POOL, images, normalise=normalise)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-4)


def test_the_power_is_right_at_every_size(monkeypatch):
    monkeypatch.setattr(lrn, "ALPHA", 9.0)
    values = torch.logspace(-6, 12, 2000, dtype=torch.float64)
    same = nn.Conv2d(2000, 2000, 1, groups=1, bias=False).requires_grad_(False)
    torch.nn.init.eye_(same.weight[:, :, 0, 0])
    images = values.float().view(1, 2000, 1, 1).expand(1, 2000, 3, 3).contiguous()
    pooled = strips.conv_pool(same, POOL, images, normalise=True)[0, :, 0, 0].double()
    alone = images[0, :, 0, 0].double()  # a corner of the map has four values around, the largest
    torch.testing.assert_close(pooled, alone * (1 + 4 * alone**2) ** -0.75, rtol=5e-7, atol=0)


def test_bfloat16_is_rounded_once_behind_float32():
    conv = conv_of(5, 3, 2, 1).bfloat16()
    images = (100 * torch.randn(1, 3, 30, 41)).bfloat16()
    wide = lrn.LocalResponseNorm()(functional.relu(conv(images)).float())
    expected = POOL(wide).bfloat16()
    pooled = strips.conv_pool(conv, POOL, images, normalise=True)
    assert pooled.dtype == torch.bfloat16
    differ = pooled != expected  # where float32's last digit decides how a tie is rounded
    assert differ.float().mean() < 0.01
    torch.testing.assert_close(pooled, expected, rtol=2**-7, atol=0)


def test_ties_are_rounded_to_even():
    # bfloat16 keeps 7 bits behind the point: 1 + 1/256 and 1 + 3/256 lie between two of them
    wide = np.float32([1 + 1 / 256, 1 + 3 / 256, 1 + 1 / 256 + 2**-20, 1 + 1 / 128])
    narrow = np.empty(4, np.uint16)
    compiled._round(wide.view(np.uint32), np.uint32(16), narrow)
    expected = torch.tensor([1, 1 + 2 / 128, 1 + 1 / 128, 1 + 1 / 128], dtype=torch.bfloat16)
    assert torch.equal(torch.from_numpy(narrow).view(torch.bfloat16), expected)
    assert torch.equal(torch.from_numpy(wide).bfloat16(), expected)


def test_what_is_not_a_number_stays_seen():
    same = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
    same.weight.fill_(1.0)
    for value in (float("nan"), float("inf")):
        images = torch.ones(1, 1, 9, 9)
        images[0, 0, 4, 8] = value
        pooled = strips.conv_pool(same, POOL, images, normalise=True)
        assert not pooled[0, 0, 1:3, 3].isfinite().any()
        assert pooled[0, 0, :, :2].isfinite().all()


@pytest.mark.parametrize("name", ["zf5", "plain_zf5", "vgg16", "squeezenet1_1"])
def test_networks_give_the_maps_of_their_path(name):
    options = {} if name == "squeezenet1_1" else {"fc_units": 4}
    network = load(name, seed=2, **options)
    images = torch.randn(2, 3, 90, 113, generator=torch.Generator().manual_seed(0))
    maps = network(images)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    expected = Network.feature_maps(network, images)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(maps, network(images))


@pytest.mark.parametrize("name", ["zf5", "vgg16", "squeezenet1_1"])
def test_training_and_hooks_see_the_convolutions(name):
    options = {} if name == "squeezenet1_1" else {"fc_units": 4}
    network = load(name, seed=2, **options)
    images = torch.randn(1, 3, 60, 60)
    seen = []
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    first = convs[0]
    for register in (first.register_forward_hook, first.register_forward_pre_hook):
        hook = register(lambda *_: seen.append(1))
        network(images)
        hook.remove()
    assert seen == [1, 1]
    for conv in convs[: -1 if name == "squeezenet1_1" else None]:  # the last one is a classifier
        for trained in conv.parameters():
            trained.requires_grad_(True)
            assert network(images).requires_grad
            trained.requires_grad_(False)
    network.requires_grad_(True)
    network(images).sum().backward()
    assert first.weight.grad is not None
    assert first.weight.grad.abs().sum() > 0


def test_another_dtype_goes_layer_by_layer():
    network = load("zf5", seed=2, fc_units=4, width=0.1).double()
    images = torch.randn(1, 3, 60, 60, dtype=torch.float64)
    assert torch.equal(network.feature_maps(images), Network.feature_maps(network, images))


@pytest.mark.parametrize(
    ("conv", "pool"),
    [
        ({}, nn.MaxPool2d(2)),
        ({}, nn.MaxPool2d(3, 2)),
        ({}, nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)),
        ({"padding": 1, "padding_mode": "reflect"}, POOL),
        ({"groups": 3}, POOL),
    ],
)
def test_other_layers_are_refused(conv, pool):
    layers = (nn.Conv2d(3, 6, 3, **conv).requires_grad_(False), pool)
    images = torch.zeros(1, 3, 20, 20)
    with pytest.raises(TypeError, match=r"MaxPool2d|Conv2d"):
        strips.conv_pool(*layers, images, normalise=False)
    if conv or pool.padding:
        with pytest.raises(TypeError, match="strip by strip go convolutions"):
            strips.chain(layers, images)


def test_an_image_too_small_is_named():
    with pytest.raises(InputError, match="4x9 px leaves no cell"):
        strips.conv_pool(conv_of(5, 7, 2, 1), POOL, torch.zeros(1, 3, 9, 4), normalise=True)


@pytest.mark.parametrize("alpha", [0, 5e-5])
def test_a_zero_with_a_sign_is_less_than_what_is_above_zero(alpha):
    maps, pooled = np.full((3, 3, 1), 5, np.float32), np.empty((1, 1, 1), np.float32)
    maps[1, 1] = -0.0
    compiled.pool_rows(maps.view(np.uint32), 0, 3, np.float32(alpha), pooled.view(np.uint32), 0)
    assert pooled.item() == pytest.approx(5, rel=0.01)
