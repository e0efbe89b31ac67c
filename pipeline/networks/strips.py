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
from pipeline.networks.geometry import Sliding, map_size, out_channels, sliding

STRIP_BYTES = 4_000_000  # of a convolution's output; from 2 to 16 MB it makes no difference

_BITS = {torch.float32: torch.uint32, torch.bfloat16: torch.uint16}


def apply_to(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether ``conv`` may go in strips: on a CPU, and where nothing is to be differentiated.

    Nor where a hook wants what goes in or out, as batch norm does while a network is trained. Hooks
    of the layers behind it, of ReLU, normalisation and pooling, are not looked for, and not called.
    """
    if images.device.type != "cpu" or images.dtype not in _BITS:
        return False
    if conv._forward_hooks or conv._forward_pre_hooks:
        return False
    trained = images.requires_grad or any(each.requires_grad for each in conv.parameters())
    return not (trained and torch.is_grad_enabled())


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
        conv: square, without dilation or groups, padded with zeros, of the images' dtype.
        pool: 3x3 at stride 2, sizes rounded up.
        images: float32 or bfloat16, on the CPU.
        normalise: whether the response is normalised between ReLU and pooling.

    Raises:
        InputError: the images are too small for a single pooled cell.
        TypeError: another kind of layer.
    """
    _require([conv, pool])
    if sliding(pool) != Sliding(kernel=3, stride=2, padding=0, ceil=True):
        raise TypeError(f"behind a convolution 3x3 maxima at stride 2 are compiled, not {pool}")
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
        TypeError: another kind of layer.
    """
    _require(layers)
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
    slide = sliding(layer)
    length = map_size(before, image.shape[3], image.shape[2])[1]
    top = first * slide.stride - slide.padding
    bottom = (last - 1) * slide.stride - slide.padding + slide.kernel
    strip = _rows(before, image, max(0, top), min(bottom, length))
    if isinstance(layer, nn.MaxPool2d):
        return functional.max_pool2d(strip, slide.kernel, slide.stride, ceil_mode=slide.ceil)
    # Zeros only where rows lie off the layer's whole input, not at the strip's edges.
    if top < 0 or bottom > length:
        strip = functional.pad(strip, (0, 0, max(0, -top), max(0, bottom - length)))
    return functional.conv2d(strip, layer.weight, layer.bias, slide.stride, (0, slide.padding))


def _require(layers: Sequence[nn.Module]) -> None:
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            plain = sliding(layer).padding == 0
        else:
            kind = (getattr(layer, "groups", 1), getattr(layer, "padding_mode", "zeros"))
            plain = kind == (1, "zeros")
        if not plain:
            raise TypeError(
                "strip by strip go convolutions without groups, padded with zeros, and pools that "
                f"are not padded, not {layer}"
            )


def _strips(rows: int, most: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, most):
        yield start, min(start + most, rows)
