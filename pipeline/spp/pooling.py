"""Max pooling of many windows over a spatial pyramid, from one feature map (SPEC §4)."""

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from numpy.typing import ArrayLike
from torch import Tensor

from pipeline.spp.range_max import pool_range_max


def bin_edges(length: int, level: int) -> Int[np.ndarray, "level 2"]:
    """Return the half-open cell range of each of `level` bins over `length` cells.

    Bins overlap where `length` is not a multiple of `level`, and are never empty.

    >>> bin_edges(13, 6).tolist()
    [[0, 3], [2, 5], [4, 7], [6, 9], [8, 11], [10, 13]]
    """
    if length < 1 or level < 1:
        raise ValueError(f"cannot cut {length} cells into {level} bins; both must be at least 1")
    i = np.arange(level)
    return np.stack([i * length // level, -(-(i + 1) * length // level)], axis=1)


def pool(
    feature_map: Float[Tensor, "channels rows cols"],
    cells: ArrayLike | Int[Tensor, "windows 4"],
    levels: Sequence[int],
) -> Float[Tensor, "windows dim"]:
    """Return the SPP vector of each window: exactly adaptive max pooling of its cells.

    Args:
        feature_map: `[channels rows cols]`, on any device.
        cells: `[windows 4]` as `(x0, y0, x1, y1)`, half-open (see `project`).
        levels: the pyramid, such as `(6, 3, 2, 1)`.

    Returns:
        `[windows bins*channels]` on the same device and of the same dtype: levels in the order
        given; inside a level bin rows, then bin columns; channels fastest.

    Raises:
        ValueError: a window has no cell, or reaches outside the map; a level is below 1.

    Source: He et al., §2.2; the bins are SPEC §4's, not the paper's `win`/`str`.
    """
    windows = torch.as_tensor(cells, dtype=torch.int64, device=feature_map.device)
    windows = windows.reshape(-1, 4) if windows.numel() == 0 else windows
    pyramid = tuple(int(level) for level in levels)
    _check(feature_map, windows, pyramid)
    plain = feature_map.device.type == "cpu" and not feature_map.requires_grad
    if not plain or feature_map.isnan().any():  # the kernel's comparisons would lose a NaN
        return pool_range_max(feature_map, windows, pyramid)
    # The CPU kernel knows no half floats. A maximum is one of its inputs: the way there and back
    # through float32 changes no bit.
    exact = torch.float64 if feature_map.dtype == torch.float64 else torch.float32
    channels_last = feature_map.permute(1, 2, 0).to(exact).contiguous().numpy()
    starts, sources = _schedule(pyramid)
    bins = sum(level * level for level in pyramid)
    out = np.empty((len(windows), bins, channels_last.shape[2]), dtype=channels_last.dtype)
    _pool(channels_last, windows.numpy(), np.array(pyramid), starts, sources, out)
    return torch.from_numpy(out).flatten(1).to(feature_map.dtype)


def _check(feature_map: Tensor, windows: Tensor, pyramid: tuple[int, ...]) -> None:
    if not pyramid or min(pyramid) < 1:
        raise ValueError(f"pyramid levels are {pyramid}; give one or more, each at least 1")
    if windows.ndim != 2 or windows.shape[1] != 4:
        raise ValueError(f"cells have shape {list(windows.shape)}; they must be [windows, 4]")
    rows, cols = feature_map.shape[1:]
    limit = torch.tensor([cols, rows], device=windows.device)
    bad = ((windows[:, :2] < 0) | (windows[:, :2] >= windows[:, 2:])).any(dim=1)
    bad |= (windows[:, 2:] > limit).any(dim=1)
    if bad.any():
        row = int(bad.to(torch.int8).argmax())
        raise ValueError(
            f"window {row} covers cells {windows[row].tolist()}, which is empty or outside the "
            f"{cols}×{rows} feature map; pipeline.spp.project gives cells inside it"
        )


def _schedule(pyramid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return each level's first bin, and the finer level whose bins it is made of (or itself).

    When `coarse` divides `fine`, a coarse bin is exactly the union of a block of fine bins, for
    `floor(i*L/coarse) = floor(i*k*L/fine)` with `k = fine/coarse`, and likewise for the ends.
    """
    sizes = np.array(pyramid)
    starts = np.concatenate([[0], np.cumsum(sizes**2)[:-1]])
    sources = np.arange(len(sizes))
    for i, coarse in enumerate(sizes):
        finer = [j for j, fine in enumerate(sizes) if fine > coarse and fine % coarse == 0]
        if finer:  # the finest is pooled from cells; the smallest multiple costs the least
            sources[i] = min(finer, key=lambda j: sizes[j])
    return starts, sources


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _pool(feature_map, windows, sizes, starts, sources, out):  # pragma: no cover - compiled
    finest_first = np.argsort(-sizes)
    for w in range(len(windows)):
        x0, y0, x1, y1 = windows[w]
        for level in finest_first:
            n, start, source = sizes[level], starts[level], sources[level]
            for row in range(n):
                for col in range(n):
                    target = out[w, start + row * n + col]
                    if source == level:
                        top, bottom = y0 + row * (y1 - y0) // n, y0 - (-(row + 1) * (y1 - y0) // n)
                        left, right = x0 + col * (x1 - x0) // n, x0 - (-(col + 1) * (x1 - x0) // n)
                        _largest_cell(feature_map, top, bottom, left, right, target)
                    else:
                        fine, first = sizes[source], starts[source]
                        _largest_bin(out[w], first, fine, fine // n, row, col, target)


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _largest_cell(feature_map, top, bottom, left, right, target):  # pragma: no cover - compiled
    channels = len(target)
    for c in range(channels):  # starts from a cell, not from zero: activations may be negative
        target[c] = feature_map[top, left, c]
    for y in range(top, bottom):
        for x in range(left, right):
            for c in range(channels):
                target[c] = max(target[c], feature_map[y, x, c])


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _largest_bin(bins, first, fine, block, row, col, target):  # pragma: no cover - compiled
    channels = len(target)
    corner = first + row * block * fine + col * block
    for c in range(channels):
        target[c] = bins[corner, c]
    for y in range(block):
        for x in range(block):
            source = bins[corner + y * fine + x]
            for c in range(channels):
                target[c] = max(target[c], source[c])
