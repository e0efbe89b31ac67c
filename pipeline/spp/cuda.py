"""The kernels for CUDA devices, in Triton: all windows, levels and bins in one launch.

Numbers are compared as keys, like on a CPU (see `lanes`): the results are the same to the bit, and
integer maxima are the same for every float type. First come tables of the maxima over squares of
1, 2, 4, ... cells, each launched after the one before. Then a program takes 16 bins of a window
and 64 channels: each bin is covered by the largest squares that fit into it, four for most bins,
whatever its level, so that programs cost about the same and none waits for another.
"""

from functools import lru_cache
from typing import no_type_check

import numpy as np
import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from pipeline.spp.pooling import BITS

BINS, CHANNELS = 16, 64  # of one program: 16 bytes of float16 for each of its 128 threads
CELLS = 16  # of one program that makes a table


def pool_cells(
    feature_map: Float[Tensor, "channels rows cols"],
    cells: Int64[np.ndarray, "windows 4"],
    pyramid: tuple[int, ...],
    out: Float[Tensor, "windows dim"],
) -> None:
    """Write the SPP vectors of one or more windows to `out`; `pipeline.spp.pool` has checked them.

    The tables take the map's bytes once for each power of two up to the shorter side of the
    largest bin: up to six times, for maps of up to 63 cells a side.
    """
    kind, infinity = BITS[feature_map.dtype]
    channels, rows, cols = feature_map.shape
    bits = feature_map.permute(1, 2, 0).contiguous().view(kind)
    shortest = np.minimum(cells[:, 2] - cells[:, 0], cells[:, 3] - cells[:, 1])
    # A bin of n a side has at most ⌊(length - 1) / n⌋ + 2 cells, and never more than the window.
    side = min(int(shortest.max()), (int(shortest.max()) - 1) // min(pyramid) + 2)
    tables = torch.empty(side.bit_length(), *bits.shape, dtype=kind, device=bits.device)
    places = _places(pyramid, bits.device)
    grid = (triton.cdiv(rows * cols, CELLS), triton.cdiv(channels, CHANNELS))
    programs = len(cells) * triton.cdiv(len(places), BINS) * triton.cdiv(channels, CHANNELS)
    with torch.cuda.device_of(bits):
        for power, table in enumerate(tables):
            step, source = (0, bits) if power == 0 else (1 << power - 1, tables[power - 1])
            _square[grid](source, table, rows, cols, channels, infinity, step, CELLS, CHANNELS)
        _pool[(programs,)](
            *(tables, torch.from_numpy(cells.astype(np.int32)).to(bits.device), places),
            *(out.view(kind), rows, cols, channels, len(places), len(tables), BINS, CHANNELS),
        )


@lru_cache
def _places(pyramid: tuple[int, ...], device: torch.device) -> Int32[Tensor, "bins 3"]:
    """Level, row and column of each bin of a window's vector."""
    places = [(n, row, col) for n in pyramid for row in range(n) for col in range(n)]
    return torch.tensor(places, dtype=torch.int32, device=device)


@triton.jit
@no_type_check  # compiled: Triton checks the types, and cannot compile a checking wrapper
def _square(
    source, table, rows, cols, channels, infinity, step,
    CELLS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip  # pragma: no cover - compiled
    """Make one table: of keys (step 0), or of the maxima of four of `source`'s squares."""
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    real = (cell < rows * cols)[:, None] & (channel < channels)[None, :]
    here = cell.to(tl.int64)[:, None] * channels + channel[None, :]
    if step == 0:
        bits = tl.load(source + here, mask=real, other=0)
        most = _turned(bits)
        size = bits & _all_but_sign(bits)
        most = tl.where(size > infinity, size, most)  # a NaN, above everything
    else:
        # At the map's edge squares are cut; no bin asks for those.
        right = tl.where(cell % cols + step < cols, step, 0)
        down = tl.where(cell // cols + step < rows, step * cols, 0)
        most = tl.load(source + here, mask=real, other=0)
        for way in tl.static_range(3):
            by = right if way == 0 else (down if way == 1 else right + down)
            other = tl.load(source + here + (by * channels)[:, None], mask=real, other=0)
            most = tl.maximum(most, other)
    tl.store(table + here, most, mask=real)


@triton.jit
@no_type_check  # compiled: Triton checks the types, and cannot compile a checking wrapper
def _pool(
    tables, cells, places, out, rows, cols, channels, bins, powers,
    BINS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip  # pragma: no cover - compiled
    channel_blocks, bin_blocks = tl.cdiv(channels, CHANNELS), tl.cdiv(bins, BINS)
    # A window's programs stand side by side: they read the same cells.
    window = tl.program_id(0) // (channel_blocks * bin_blocks)
    block = tl.program_id(0) % (channel_blocks * bin_blocks)
    bin_ = block // channel_blocks * BINS + tl.arange(0, BINS)
    channel = block % channel_blocks * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.minimum(bin_, bins - 1) * 3
    level = tl.load(places + place)
    row, col = tl.load(places + place + 1), tl.load(places + place + 2)
    x0, y0 = tl.load(cells + 4 * window), tl.load(cells + 4 * window + 1)
    x1, y1 = tl.load(cells + 4 * window + 2), tl.load(cells + 4 * window + 3)
    left, right = x0 + col * (x1 - x0) // level, x0 + ((col + 1) * (x1 - x0) + level - 1) // level
    top, bottom = y0 + row * (y1 - y0) // level, y0 + ((row + 1) * (y1 - y0) + level - 1) // level
    shorter = tl.minimum(right - left, bottom - top)
    side, power = tl.full([BINS], 1, tl.int32), tl.full([BINS], 0, tl.int32)
    for larger in range(1, powers):
        fits = shorter >= (1 << larger)
        side, power = tl.where(fits, 1 << larger, side), tl.where(fits, larger, power)
    real = (bin_ < bins)[:, None] & (channel < channels)[None, :]
    steps_down = tl.max((bottom - top + side - 1) // side, axis=0)
    steps_across = tl.max((right - left + side - 1) // side, axis=0)
    table = power * rows
    most = tl.load(_cell(tables, table + top, left, cols, channels, channel), mask=real, other=0)
    for down in range(steps_down):
        y = table + tl.minimum(top + down * side, bottom - side)
        for across in range(steps_across):
            x = tl.minimum(left + across * side, right - side)
            found = tl.load(_cell(tables, y, x, cols, channels, channel), mask=real, other=0)
            most = tl.maximum(most, found)
    target = (window.to(tl.int64) * bins + bin_)[:, None] * channels + channel[None, :]
    tl.store(out + target, _turned(most), mask=real)


@triton.jit
@no_type_check  # compiled: Triton checks the types, and cannot compile a checking wrapper
def _cell(tables, y, x, cols, channels, channel):  # pragma: no cover - compiled
    return tables + ((y * cols + x).to(tl.int64) * channels)[:, None] + channel[None, :]


@triton.jit
@no_type_check  # compiled: Triton checks the types, and cannot compile a checking wrapper
def _turned(bits):  # pragma: no cover - compiled
    """Keys of floats and floats of keys: all bits but the sign inverted below zero."""
    return tl.where(bits < 0, bits ^ _all_but_sign(bits), bits)


@triton.jit
@no_type_check  # compiled: Triton checks the types, and cannot compile a checking wrapper
def _all_but_sign(bits):  # pragma: no cover - compiled
    lowest: tl.constexpr = -(1 << (bits.dtype.primitive_bitwidth - 1))
    return tl.full([1, 1], -1 - lowest, bits.dtype)
