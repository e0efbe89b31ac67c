"""Max pooling of many windows over a spatial pyramid, from one feature map (SPEC §4)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from pipeline.spp.range_max import pool_range_max

# The integers whose order is that of the floats (see `lanes`), and infinity as one of them.
BITS = {
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float32: (torch.int32, 0x7F80_0000),
    torch.float64: (torch.int64, 0x7FF0_0000_0000_0000),
}
# A smaller result is better left in the caches for whoever reads it next.
STREAM_FROM_BYTES = 2 << 20
# Less work than this is done before another thread has begun.
BYTES_PER_THREAD = 1 << 20


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
    out: Float[Tensor, "windows dim"] | None = None,
) -> Float[Tensor, "windows dim"]:
    """Return the SPP vector of each window: exactly adaptive max pooling of its cells.

    A NaN makes its bins NaN. Where a bin has zeros of both signs, its maximum is +0.0 (torch takes
    the one it meets first, which compares equal). The result does not depend on the number of
    threads, which is torch's. On a CPU each thread needs up to 16 kB for each cell that the windows
    cover, at most four times what the map takes.

    Args:
        feature_map: `[channels rows cols]`, on any device. On a CPU or CUDA device float16,
            bfloat16, float32 and float64 have a kernel, which does not copy a map that is
            `[rows cols channels]` in memory, as channels-last networks return it.
        cells: `[windows 4]` as `(x0, y0, x1, y1)`, half-open (see `project`).
        levels: the pyramid, such as `(6, 3, 2, 1)`.
        out: where to put the result: contiguous, of the map's dtype and on its device. Memory that
            is used again and again is written several times as fast as memory that is new.

    Returns:
        `[windows bins*channels]` on the same device and of the same dtype: levels in the order
        given; inside a level bin rows, then bin columns; channels fastest. `out`, if given.

    Raises:
        ValueError: a window has no cell, or reaches outside the map; a level is below 1; `out`
            does not fit.

    Source: He et al., §2.2; the bins are SPEC §4's, not the paper's `win`/`str`.
    """
    windows = np.asarray(cells.cpu() if isinstance(cells, Tensor) else cells)
    windows = windows.reshape(-1, 4) if windows.size == 0 else windows
    windows = np.ascontiguousarray(windows, np.int64)
    pyramid = tuple(int(level) for level in levels)
    _check(feature_map, windows, pyramid)
    shape = (len(windows), feature_map.shape[0] * sum(level * level for level in pyramid))
    differentiable = feature_map.requires_grad and torch.is_grad_enabled()
    _check_out(feature_map, shape, out, differentiable)
    kind = feature_map.device.type
    if differentiable or feature_map.dtype not in BITS or kind not in ("cpu", "cuda"):
        return _plain(feature_map, windows, pyramid, out)
    if kind == "cuda" and not _has_triton():
        return _plain(feature_map, windows, pyramid, out)
    streamed = out is not None and _streams(out, feature_map.shape[0])
    result = empty_vectors(*shape, feature_map) if out is None else out
    if result.numel() == 0:
        return result
    if kind == "cuda":
        from pipeline.spp import cuda  # needs triton

        cuda.pool_cells(feature_map.detach(), windows, pyramid, result)
    else:
        _on_cpu(feature_map.detach(), windows, pyramid, result, streamed)
    return result


def empty_vectors(count: int, length: int, like: Tensor) -> Float[Tensor, "count length"]:
    """Return room for vectors of the dtype and on the device of `like`, to be pooled into.

    On a CPU it begins at a multiple of 64 bytes, and numpy asks the system for huge pages: writing
    to them for the first time takes half as long as to torch's.
    """
    if like.device.type != "cpu" or like.dtype not in BITS:
        return torch.empty(count, length, dtype=like.dtype, device=like.device)
    size = count * length * like.element_size()
    memory = np.empty(size + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return torch.from_numpy(memory[first : first + size]).view(like.dtype).view(count, length)


@lru_cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _plain(
    feature_map: Tensor, windows: np.ndarray, pyramid: tuple[int, ...], out: Tensor | None
) -> Tensor:
    cells = torch.from_numpy(windows).to(feature_map.device)
    pooled = pool_range_max(feature_map, cells, pyramid)
    return pooled if out is None else out.copy_(pooled)


def _streams(out: Tensor, channels: int) -> bool:
    """Whether to write past the caches: much, and every bin begins at a multiple of 64 bytes."""
    size = out.element_size()
    aligned = out.data_ptr() % 64 == 0 and channels * size % 64 == 0
    return aligned and out.numel() * size >= STREAM_FROM_BYTES


def _on_cpu(
    feature_map: Tensor, windows: np.ndarray, pyramid: tuple[int, ...], out: Tensor, streamed: bool
) -> None:
    # Not at the top: compiling and loading the kernel takes longer than most commands.
    from pipeline.spp.cpu import pool_cells

    kind, infinity = BITS[feature_map.dtype]
    bits = feature_map.permute(1, 2, 0).contiguous().view(kind).numpy()
    result, plan = out.view(kind).numpy(), _plan(pyramid)
    limit = bits.dtype.type(infinity)

    def pool_part(part: slice) -> None:
        pool_cells(bits, windows[part], plan, limit, result[part].reshape(-1), streamed)

    threads = min(torch.get_num_threads(), max(1, result.nbytes // BYTES_PER_THREAD), len(windows))
    ends = [len(windows) * part // threads for part in range(threads + 1)]
    parts = [slice(start, end) for start, end in pairwise(ends)]
    if threads == 1:
        pool_part(parts[0])
        return
    # Not numba's own threads: its default layer aborts the process when two threads of Python use
    # it at once, and another leaves a pool behind that a fork breaks.
    with ThreadPoolExecutor(threads - 1) as others:
        waiting = [others.submit(pool_part, part) for part in parts[1:]]
        pool_part(parts[0])
        for each in waiting:
            each.result()


def _check(feature_map: Tensor, windows: np.ndarray, pyramid: tuple[int, ...]) -> None:
    if not pyramid or min(pyramid) < 1:
        raise ValueError(f"pyramid levels are {pyramid}; give one or more, each at least 1")
    if windows.ndim != 2 or windows.shape[1] != 4:
        raise ValueError(f"cells have shape {list(windows.shape)}; they must be [windows, 4]")
    rows, cols = feature_map.shape[1:]
    x0, y0, x1, y1 = windows.T
    bad = (x0 < 0) | (y0 < 0) | (x0 >= x1) | (y0 >= y1) | (x1 > cols) | (y1 > rows)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"window {row} covers cells {windows[row].tolist()}, which is empty or outside the "
            f"{cols}×{rows} feature map; pipeline.spp.project gives cells inside it"
        )


def _check_out(
    feature_map: Tensor, shape: tuple[int, int], out: Tensor | None, differentiable: bool
) -> None:
    if out is None:
        return
    wanted = (shape, feature_map.dtype, feature_map.device)
    found = (tuple(out.shape), out.dtype, out.device)
    if found != wanted or not out.is_contiguous():
        raise ValueError(
            f"out is {list(out.shape)}, {out.dtype} on {out.device}, strides {out.stride()}; the "
            f"result is {list(shape)}, {feature_map.dtype} on {feature_map.device}, contiguous"
        )
    if differentiable or (out.requires_grad and torch.is_grad_enabled()):
        raise ValueError("gradients do not pass through out: leave it out, or use torch.no_grad()")


@lru_cache
def _plan(pyramid: tuple[int, ...]) -> Int64[np.ndarray, "levels 3"]:
    """Return for each level, finest first: its bins a side, its first bin, and its source.

    The source is the place in this list of the finer level whose bins it is made of, or its own.
    When `coarse` divides `fine`, a coarse bin is exactly the union of a block of fine bins, for
    `floor(i*L/coarse) = floor(i*k*L/fine)` with `k = fine/coarse`, and likewise for the ends.
    """
    starts = np.cumsum([0, *(level * level for level in pyramid)])
    order = sorted(range(len(pyramid)), key=lambda place: -pyramid[place])
    sizes = [pyramid[place] for place in order]
    sources = list(range(len(sizes)))
    for i, coarse in enumerate(sizes):
        finer = [j for j, fine in enumerate(sizes) if fine > coarse and fine % coarse == 0]
        if finer:  # the finest is pooled from cells; the smallest multiple costs the least
            sources[i] = min(finer, key=lambda j: sizes[j])
    return np.array([sizes, starts[order], sources], np.int64).T.copy()
