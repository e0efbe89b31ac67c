"""A convolution and the pooling behind it, strip by strip: the large map between is never whole.

A ZF-5 makes 60 MB of conv1's map of one image at s=688, and used it only to normalise and pool it
to a quarter. Memory of that size comes fresh from the system each time: filling it took as long
as computing it, and ReLU, normalisation and pooling took three times that. A strip stays in the
cache, and its memory is used again for the next.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks import lrn
from pipeline.networks.compiled import pool_rows
from pipeline.networks.geometry import map_size, out_channels

STRIP_BYTES = 4_000_000  # of a convolution's output; from 2 to 16 MB it makes no difference

_SIDES = ("kernel_size", "stride", "padding")
_BITS = {torch.float32: torch.uint32, torch.bfloat16: torch.uint16}


def tracked(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether autograd follows what ``conv`` makes of ``images``."""
    return torch.is_grad_enabled() and (images.requires_grad or conv.weight.requires_grad)


def apply_to(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether ``conv_pool`` can be taken: on a CPU, and where nothing is to be differentiated.

    Nor where a hook wants the convolution's output, as batch norm does while a network is trained.
    """
    if images.device.type != "cpu" or images.dtype not in _BITS or conv._forward_hooks:
        return False
    return not tracked(conv, images)


def conv_pool(
    conv: nn.Conv2d,
    pool: nn.MaxPool2d,
    images: Float[Tensor, "batch channels rows cols"],
    *,
    normalise: bool,
) -> Float[Tensor, "batch filters less_rows less_cols"]:
    """``conv``, ReLU, the normalisation of ``lrn`` if asked, and ``pool``.

    The same as those layers one after another, to float32's rounding; bfloat16 is rounded once
    behind the convolution and once behind the pooling, and computed with as float32 between.

    Args:
        conv: square, without dilation or groups, of the images' dtype.
        pool: 3x3 at stride 2, sizes rounded up.
        images: float32 or bfloat16, on the CPU.
        normalise: whether the response is normalised between ReLU and pooling.

    Raises:
        InputError: the images are too small for a single pooled cell.
    """
    height, width = images.shape[2:]
    cols, rows = map_size([conv], width, height)
    pooled_cols, pooled_rows = map_size([conv, pool], width, height)
    size = (len(images), pooled_rows, pooled_cols, conv.out_channels)
    pooled = torch.empty(size, dtype=images.dtype)
    bits = pooled.view(_BITS[images.dtype]).numpy()
    alpha = np.float32(lrn.ALPHA / 9 if normalise else 0.0)
    row_bytes = cols * conv.out_channels * images.element_size()
    for start, stop in _strips(pooled_rows, max(1, STRIP_BYTES // (2 * row_bytes))):
        # Pooling reads rows up to 2*stop, and the normalisation one more to either side.
        first, last = max(0, 2 * start - 1), min(rows, 2 * stop + 2)
        for image, target in zip(images.split(1), bits, strict=True):
            strip = _rows([conv], image, first, last).permute(0, 2, 3, 1).contiguous()
            values = strip.view(_BITS[images.dtype]).numpy()[0]
            pool_rows(values, first, rows, alpha, target[start:stop], start)
    return pooled.permute(0, 3, 1, 2)


def chain(
    layers: Sequence[nn.Module], images: Float[Tensor, "batch channels rows cols"]
) -> Float[Tensor, "batch filters less_rows less_cols"]:
    """``layers`` one after another: convolutions, ReLUs, and a max pooling last.

    Args:
        layers: their strips overlap, and what overlaps is computed twice: three or four rows.
        images: of the layers' dtype, on the CPU.

    Raises:
        InputError: the images are too small for a single cell.
    """
    height, width = images.shape[2:]
    cols, rows = map_size(layers, width, height)
    size = (len(images), out_channels(layers), rows, cols)
    maps = torch.empty(size, dtype=images.dtype, memory_format=torch.channels_last)
    # A pooling halves rows and columns: four of what it reads for each that it writes.
    row_bytes = 4 * cols * size[1] * images.element_size()
    for start, stop in _strips(rows, max(1, STRIP_BYTES // row_bytes)):
        for image, target in zip(images.split(1), maps.split(1), strict=True):
            target[:, :, start:stop] = _rows(layers, image, start, stop)
    return maps


def _rows(layers: Sequence[nn.Module], image: Tensor, first: int, last: int) -> Tensor:
    """Rows ``first`` to ``last`` of what ``layers`` make of the image."""
    if not layers:
        return image[:, :, first:last]
    *before, layer = layers
    if isinstance(layer, nn.ReLU):
        return functional.relu_(_rows(before, image, first, last))
    assert isinstance(layer, nn.Conv2d | nn.MaxPool2d)
    kernel, stride, padding = (_square(getattr(layer, name)) for name in _SIDES)
    length = map_size(before, image.shape[3], image.shape[2])[1]
    top, bottom = first * stride - padding, (last - 1) * stride - padding + kernel
    strip = _rows(before, image, max(0, top), min(bottom, length))
    if isinstance(layer, nn.MaxPool2d):
        return functional.max_pool2d(strip, kernel, stride, ceil_mode=layer.ceil_mode)
    # Zeros only where rows lie off the layer's whole input, not at the strip's edges.
    if top < 0 or bottom > length:
        strip = functional.pad(strip, (0, 0, max(0, -top), max(0, bottom - length)))
    return functional.conv2d(strip, layer.weight, layer.bias, stride, (0, padding))


def _strips(rows: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _square(sides: int | tuple[int, int]) -> int:
    return sides[0] if isinstance(sides, tuple) else sides
