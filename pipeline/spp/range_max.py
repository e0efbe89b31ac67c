"""Pyramid pooling in plain tensor operations: any device, and differentiable.

A table of maxima over power-of-two blocks answers "the largest in this rectangle" with four
look-ups, so that no loop runs over windows or bins.
"""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor


def pool_range_max(
    feature_map: Float[Tensor, "channels rows cols"],
    cells: Int[Tensor, "windows 4"],
    levels: tuple[int, ...],
) -> Float[Tensor, "windows dim"]:
    """Return the same as `pipeline.spp.pool`; the arguments are checked there."""
    rows, cols = feature_map.shape[1:]
    tables = _block_maxima(feature_map.permute(1, 2, 0))
    x_powers = len(tables) // _powers(rows)
    flat = torch.stack(tables).flatten(0, 2)
    pooled = []
    for level in levels:
        top, bottom = _edges(cells[:, 1], cells[:, 3], level)
        left, right = _edges(cells[:, 0], cells[:, 2], level)
        y_power, x_power = _floor_log2(bottom - top), _floor_log2(right - left)
        corners = [
            (y[:, :, None] * cols + x[:, None, :])
            for y in (top, bottom - (1 << y_power))
            for x in (left, right - (1 << x_power))
        ]
        table = (y_power[:, :, None] * x_powers + x_power[:, None, :]) * (rows * cols)
        largest = flat[table + corners[0]]
        for corner in corners[1:]:
            largest = torch.maximum(largest, flat[table + corner])
        pooled.append(largest.flatten(1, 2))
    return torch.cat(pooled, dim=1).flatten(1)


def _block_maxima(channels_last: Tensor) -> list[Tensor]:
    """Maxima over blocks of 2^i rows by 2^j columns that start at each cell, i-major.

    Blocks that would leave the map are cut at its edge; no query asks for them.
    """
    rows, cols = channels_last.shape[:2]
    tall = [channels_last]
    for power, _ in pairwise(range(_powers(rows))):
        tall.append(_merge(tall[-1], 1 << power, dim=0))
    tables = []
    for table in tall:
        wide = [table]
        for power, _ in pairwise(range(_powers(cols))):
            wide.append(_merge(wide[-1], 1 << power, dim=1))
        tables.extend(wide)
    return tables


def _merge(table: Tensor, step: int, dim: int) -> Tensor:
    size = table.shape[dim]
    merged = torch.maximum(table.narrow(dim, 0, size - step), table.narrow(dim, step, size - step))
    return torch.cat([merged, table.narrow(dim, size - step, step)], dim=dim)


def _powers(size: int) -> int:
    return size.bit_length()


def _floor_log2(lengths: Tensor) -> Tensor:
    return torch.floor(torch.log2(lengths.to(torch.float64))).to(torch.int64)


def _edges(start: Tensor, stop: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """SPEC §4's bins of `[start, stop)`: two `[windows level]` tensors."""
    i, length = torch.arange(level, device=start.device), (stop - start)[:, None]
    first = torch.div(i * length, level, rounding_mode="floor")
    last = -torch.div(-(i + 1) * length, level, rounding_mode="floor")
    return start[:, None] + first, start[:, None] + last
