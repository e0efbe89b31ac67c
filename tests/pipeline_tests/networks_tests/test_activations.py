"""Activations counted by hand, layer by layer."""

import pytest

from pipeline import networks
from pipeline.errors import InputError
from pipeline.networks.activations import activation_bytes

STRIPS = 3 * 4_000_000


def test_zf5_is_largest_at_its_first_strip() -> None:
    zf5 = networks.outline("zf5", width=0.0625)  # channels 6, 16, 24, 24, 16
    # 224×160: conv1 110×78, pooled to 55×39
    assert activation_bytes(zf5, 224, 160) == STRIPS + 4 * (224 * 160 * 3 + 55 * 39 * 6)


def test_wide_layers_behind_the_strips_count_with_what_they_read() -> None:
    zf5 = networks.outline("zf5", width=16.0)  # channels 1,536, 4,096, 6,144, 6,144, 4,096
    # 224×224: conv1 pooled to 55×55, conv2 26×26 pooled to 13×13
    first, last = 3 * 224 * 224 + 55 * 55 * 1536, 13 * 13 * (6144 + 6144)
    second = 55 * 55 * 1536 + 13 * 13 * 4096
    assert second > first > last
    assert activation_bytes(zf5, 224, 224) == STRIPS + 4 * second


def test_a_fire_block_holds_all_that_it_makes() -> None:
    squeezenet = networks.outline("squeezenet1_1")
    # 225×225: the first convolution 112×112, pooled to 56×56×64; then fire2 squeezes to 16,
    # expands to 64 and 64, and has its 128 twice. fire3 reads 128 and is the largest.
    cells = 56 * 56
    assert activation_bytes(squeezenet, 225, 225) == STRIPS + 4 * cells * (
        128 + 16 + 64 + 128 + 128
    )


def test_a_residual_block_holds_both_its_ways() -> None:
    resnet = networks.outline("resnet18")
    # 64×64: conv1 32×32×64 and its norm. layer1 at 16×16: five and more of 64; the stem is larger.
    stem = 32 * 32 * 64 * 2
    block = 16 * 16 * 64 * (1 + 1 + 2 + 1)
    assert stem > block
    assert activation_bytes(resnet, 64, 64) == 4 * stem


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(InputError, match="leaves no cell"):
        activation_bytes(networks.outline("zf5"), 9, 9)


def test_vggs_first_blocks_are_never_whole() -> None:
    vgg = networks.outline("vgg16")
    # 16×16 px: conv1's 64 maps of 16×16 go in strips, conv2's 128 of 8×8 too; then 256 of 4×4
    # are read and made. Layer by layer conv1_2 would hold 2 · 16 · 16 · 64.
    assert activation_bytes(vgg, 16, 16) == STRIPS + 4 * (4 * 4 * 256 + 4 * 4 * 256)
