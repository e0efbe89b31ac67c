"""The compiled kernel for processors: how a channels-last map is pooled for many windows.

Channels are taken in blocks. Of each block the map's keys (see `lanes`) are laid out, and beside
them the maxima of neighbours two by two, small enough to stay in cache while all windows are pooled
from them: a bin of 4 by 4 cells then takes 4 reads, not 16. Coarse levels come from the window's
finer bins, and the result is written once and never read.

Functions that are called for every window get pointers, not arrays: see `lanes.pointer`.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from pipeline.spp.lanes import (
    LANE_BYTES,
    end_streams,
    floats,
    keys,
    lanes_of,
    larger,
    load,
    pointer,
    store,
    stream,
)

LANES_SHA256 = "c104ab63b6ba7448aca1328be82f72014b04633e2b803b85da6266e7c200c98d"
"""Of `lanes.py`. A kernel that numba kept from before is compiled anew when this file changes."""

# Of a cell's channels in one block. Streaming, 256 bytes mean twice the bookkeeping and 1,024 bytes
# more than the cache holds: both took up to 1.3 times as long as 512. Through the caches the pages
# of the result are better filled in one go: 512 bytes took 1.4 times as long as 1,024.
STREAMED_BYTES, STORED_BYTES = 512, 4096
# Neighbours' maxima are made where the windows together have this many times the cells of the map;
# below, making them costs more reads than it saves.
PAIRS_FROM = 15


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def pool_cells(feature_map, cells, levels, infinity, out, streamed):  # pragma: no cover - compiled
    """Pool one or more windows over a pyramid.

    Args:
        feature_map: `[rows cols channels]`, contiguous: the bits of floats, as integers.
        cells: `[windows 4]` int64, within the map.
        levels: `[levels 3]` int64, finest first: bins a side; the level's first bin; the place in
            this list of the finer level whose bins it is made of, or its own.
        infinity: its bits.
        out: `[windows * bins * channels]`, for the bits of floats.
        streamed: whether to write past the caches; `out`, and in it every bin, must then begin at
            a multiple of 64 bytes.
    """
    channels, lanes = feature_map.shape[2], LANE_BYTES // feature_map.itemsize
    block = (STREAMED_BYTES if streamed else STORED_BYTES) // feature_map.itemsize
    width = min(block, -(-channels // lanes) * lanes)
    left, top = cells[:, 0].min(), cells[:, 1].min()
    rows, cols = cells[:, 3].max() - top, cells[:, 2].max() - left
    covered = ((cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])).sum()
    pairs = covered > PAIRS_FROM * rows * cols
    frame = (left, top, cols, rows, width, pairs)
    tables = np.empty((4 if pairs else 1) * rows * cols * width, feature_map.dtype)
    pooled = np.empty((levels[:, 0] ** 2).sum() * width, feature_map.dtype)
    reach = np.empty(6 * levels[:, 0].max(), np.int64)
    for channel in range(0, channels, width):
        span = (channel, min(width, channels - channel), channels)
        _lay_out(feature_map, infinity, frame, span, tables)
        _pool_block(tables, frame, cells, levels, reach, pooled, out, span, streamed)
    end_streams()


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _lay_out(feature_map, infinity, frame, span, tables):  # pragma: no cover - compiled
    """Fill the tables: keys; maxima of two in a row; of two in a column; of two by two.

    Each begins at the cell it is kept for. At the end of a row it takes in what it should not: no
    bin asks for that one.
    """
    left, top, cols, rows, width, pairs = frame
    channel, there, channels = span
    lanes, table = LANE_BYTES // tables.itemsize, rows * cols * width
    source, target = pointer(feature_map), pointer(tables)
    for cell in range(rows * cols):
        y, x = top + cell // cols, left + cell % cols
        given, kept = (y * feature_map.shape[1] + x) * channels + channel, cell * width
        for c in range(0, there - lanes + 1, lanes):
            store(target, kept + c, keys(load(source, given + c), infinity))
        if there % lanes:
            rest = there - there % lanes
            for c in range(rest, there):
                target[kept + c] = source[given + c]
            store(target, kept + rest, keys(load(target, kept + rest), infinity))
    if pairs:
        for start, step, end in (
            (0, width, table),
            (0, cols * width, 2 * table),
            (table, cols * width, 3 * table),
        ):
            for k in range(0, table - step, lanes):
                both = larger(load(target, start + k), load(target, start + step + k))
                store(target, end + k, both)


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _pool_block(
    tables, frame, cells, levels, reach, pooled, out, span, streamed
):  # pragma: no cover - compiled
    left, top, cols, rows, width, pairs = frame
    channel, there, channels = span
    table, bins = rows * cols * width, len(pooled) // width
    lanes = LANE_BYTES // pooled.itemsize
    used = -(-there // lanes) * lanes
    maxima, edges = pointer(tables), pointer(reach)
    bins_here, result = pointer(pooled), pointer(out)
    for w in range(len(cells)):
        x0, y0, x1, y1 = (
            cells[w, 0] - left,
            cells[w, 1] - top,
            cells[w, 2] - left,
            cells[w, 3] - top,
        )
        for level in range(len(levels)):
            n, first, source = levels[level, 0], levels[level, 1], levels[level, 2]
            near, far = first * width, (w * bins + first) * channels + channel
            if source == level:
                _reach(x0, x1 - x0, n, width, table, pairs, edges, 0)
                _reach(y0, y1 - y0, n, cols * width, 2 * table, pairs, edges, 3 * n)
                _from_tables(
                    maxima, edges, n, bins_here, near, width, used, result, far, channels, streamed
                )
            else:
                fine, start = levels[source, 0], levels[source, 1] * width
                _from_finer(
                    start, fine, n, bins_here, near, width, used, result, far, channels, streamed
                )
        if not streamed:
            far = w * bins * channels + channel
            _write(bins_here, bins, width, there, result, far, channels)


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _reach(start, length, n, step, table, pairs, edges, place):  # pragma: no cover - compiled
    """Where, along one axis, each of n bins is read: first and last offset, and the way between.

    A bin of two cells or more is read from the table of pairs, the last pair flush with its end.
    It ends where the next one starts, or a cell later (SPEC §4).
    """
    first = 0
    for i in range(n):
        following = (i + 1) * length // n
        last = following + (1 if following * n < (i + 1) * length else 0)
        paired = 1 if pairs and last - first > 1 else 0
        at = place + 3 * i
        edges[at] = paired * table + (start + first) * step
        edges[at + 1] = paired * table + (start + last - 1 - paired) * step
        edges[at + 2] = (1 + paired) * step
        first = following


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _from_tables(
    maxima, edges, n, pooled, near, width, used, out, far, channels, streamed
):  # pragma: no cover - compiled
    lanes = lanes_of(maxima)
    for i in range(n):
        top, bottom, row = edges[3 * (n + i)], edges[3 * (n + i) + 1], edges[3 * (n + i) + 2]
        for j in range(n):
            left, right, col = edges[3 * j], edges[3 * j + 1], edges[3 * j + 2]
            here, goal = near + (i * n + j) * width, far + (i * n + j) * channels
            if bottom - top <= row and right - left <= col:  # the corners are all there is
                for c in range(0, used, lanes):
                    upper = larger(load(maxima, top + left + c), load(maxima, top + right + c))
                    most = larger(upper, load(maxima, bottom + left + c))
                    most = larger(most, load(maxima, bottom + right + c))
                    store(pooled, here + c, most)
                    if streamed:
                        stream(out, goal + c, floats(most))
            else:
                for c in range(0, used, lanes):
                    most = load(maxima, bottom + right + c)
                    for y in range(top, bottom, row):
                        for x in range(left, right, col):
                            most = larger(most, load(maxima, y + x + c))
                        most = larger(most, load(maxima, y + right + c))
                    for x in range(left, right, col):
                        most = larger(most, load(maxima, bottom + x + c))
                    store(pooled, here + c, most)
                    if streamed:
                        stream(out, goal + c, floats(most))


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _from_finer(
    start, fine, n, pooled, near, width, used, out, far, channels, streamed
):  # pragma: no cover - compiled
    lanes, block = lanes_of(pooled), fine // n
    for i in range(n):
        for j in range(n):
            corner = start + (i * fine + j) * block * width
            here, goal = near + (i * n + j) * width, far + (i * n + j) * channels
            for c in range(0, used, lanes):
                most = load(pooled, corner + c)
                for y in range(block):
                    for x in range(block):
                        most = larger(most, load(pooled, corner + (y * fine + x) * width + c))
                store(pooled, here + c, most)
                if streamed:
                    stream(out, goal + c, floats(most))


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _write(pooled, bins, width, there, out, far, channels):  # pragma: no cover - compiled
    """Turn a window's keys into floats and put them where they belong, through the caches."""
    lanes = lanes_of(pooled)
    for b in range(bins):
        here, goal = b * width, far + b * channels
        for c in range(0, there - lanes + 1, lanes):
            store(out, goal + c, floats(load(pooled, here + c)))
        if there % lanes:
            rest = there - there % lanes
            store(pooled, here + rest, floats(load(pooled, here + rest)))
            for c in range(rest, there):
                out[goal + c] = pooled[here + c]
