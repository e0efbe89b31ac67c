"""ReLU, response normalisation and max pooling in one pass over memory, compiled for the CPU.

Maps are channels-last, and come as the bits of their numbers, so that one function serves both
float32 (32 bits) and bfloat16 (the upper 16 of them); what is computed is float32 in either case.
"""

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# Fused multiply-add only: nothing that would lose a NaN or an infinity.
_FAST = {"contract"}


@intrinsic
@no_type_check  # numba reads the signature
def _as_float(typing_context: Any, bits: Any):  # pragma: no cover - compiled
    def bitcast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), bitcast


@intrinsic
@no_type_check  # numba reads the signature
def _as_bits(typing_context: Any, value: Any):  # pragma: no cover - compiled
    def bitcast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), bitcast


@njit(cache=True, nogil=True, fastmath=_FAST)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def pool_rows(maps, first, rows, alpha, out, start):  # pragma: no cover - compiled
    """Pool 3x3 cells at stride 2, after ReLU and the normalisation of ``alpha``; 0 for none.

    Sizes are rounded up: the last window of an axis may have two cells.

    Args:
        maps: uint32 or uint16 ``[rows cols channels]``: a strip of one image's convolution.
        first: row of the whole map that the strip begins with.
        rows: of the whole map.
        alpha: of a sum of nine squares, float32 (see ``lrn``).
        out: as ``maps``, the pooled rows that the strip is for.
        start: row of the whole pooled map that ``out`` begins with.
    """
    channels, length = maps.shape[2], maps.shape[1] * maps.shape[2]
    shift = np.uint32(32 - 8 * maps.itemsize)
    lines = np.zeros((3, length), np.float32)  # a row, and the two beside it
    squares = np.empty((3, channels), np.float32)
    bits = np.empty(length, np.uint32)
    across = np.empty(out.shape[1] * channels, np.uint32)
    best = np.zeros(out.shape[1] * channels, np.uint32)
    top, bottom = 2 * start, min(2 * (start + len(out)), rows - 1)
    for row in range(max(top - 1, 0), top + 1):
        _rectify(maps[row - first].reshape(length), shift, lines[row % 3])
    for row in range(top, bottom + 1):
        if row + 1 < rows:
            _rectify(maps[row + 1 - first].reshape(length), shift, lines[(row + 1) % 3])
        else:
            lines[(row + 1) % 3] = 0
        if alpha > 0:
            above, below = lines[(row + 2) % 3], lines[(row + 1) % 3]
            _normalise(above, lines[row % 3], below, alpha, squares, bits)
        else:
            for i in range(length):
                bits[i] = _as_bits(lines[row % 3, i])
        _largest_of_three(bits, channels, across)
        # Values are not negative here, and then their bits are in their order, a NaN's above all.
        for i in range(len(best)):
            best[i] = max(best[i], across[i])
        if row % 2 == 0 and row > top:
            _round(best, shift, out[row // 2 - 1 - start].reshape(len(best)))
            best[:] = across
    if bottom < 2 * (start + len(out)):
        _round(best, shift, out[len(out) - 1].reshape(len(best)))


@njit(cache=True, nogil=True, fastmath=_FAST)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _rectify(raw, shift, line):  # pragma: no cover - compiled
    for i in range(len(line)):
        value = _as_float(np.uint32(np.uint32(raw[i]) << shift))
        line[i] = np.float32(0) if value <= np.float32(0) else value  # a NaN stays, -0.0 does not


@njit(cache=True, nogil=True, fastmath=_FAST)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _normalise(above, line, below, alpha, squares, bits):  # pragma: no cover - compiled
    """Write the bits of ``x * (1 + alpha * sum of the nine squares around)**-0.75``.

    Column by column: the sums of three columns stay in the first-level cache, which is twice as
    quick as whole rows of sums.
    """
    channels = squares.shape[1]
    squares[2] = 0
    for c in range(channels):
        squares[0, c] = above[c] * above[c] + line[c] * line[c] + below[c] * below[c]
    for x in range(len(line) // channels):
        here, behind = x * channels, (x + 1) * channels
        ahead = squares[(x + 1) % 3]
        if behind < len(line):
            up, mid, down = above[behind:], line[behind:], below[behind:]
            for c in range(channels):
                ahead[c] = up[c] * up[c] + mid[c] * mid[c] + down[c] * down[c]
        else:
            ahead[:] = 0
        own, last = squares[x % 3], squares[(x + 2) % 3]
        values, target = line[here:behind], bits[here:behind]
        for c in range(channels):
            scale = np.float32(1) + alpha * (last[c] + own[c] + ahead[c])
            target[c] = _as_bits(values[c] * _power(scale))


@njit(cache=True, nogil=True, fastmath=_FAST)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _power(scale):  # pragma: no cover - compiled
    """``scale ** -0.75`` to 3e-7: two roots and a division take five times as long.

    A quarter of the exponent, negated, is z = scale^(-1/4) to 3%. With e = 1 - scale z^4 the root
    itself is z (1 - e)^(-1/4), whose series is taken to e^3, and then, for z^3, to e.
    """
    z = _as_float(np.uint32(np.uint32(0x4F58AE52) - (_as_bits(scale) >> np.uint32(2))))
    squared = z * z
    e = np.float32(1) - scale * (squared * squared)
    z += z * (e * (np.float32(1 / 4) + e * (np.float32(5 / 32) + e * np.float32(15 / 128))))
    squared = z * z
    e = np.float32(1) - scale * (squared * squared)
    cubed = squared * z
    return cubed + cubed * (np.float32(3 / 4) * e)


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _largest_of_three(bits, channels, across):  # pragma: no cover - compiled
    last = len(bits) // channels - 1
    for x in range(len(across) // channels):
        middle, right = min(2 * x + 1, last), min(2 * x + 2, last)
        one = bits[2 * x * channels : (2 * x + 1) * channels]
        two = bits[middle * channels : (middle + 1) * channels]
        three = bits[right * channels : (right + 1) * channels]
        target = across[x * channels : (x + 1) * channels]
        for c in range(channels):
            target[c] = max(max(one[c], two[c]), three[c])


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _round(bits, shift, target):  # pragma: no cover - compiled
    """To the nearest of the numbers that ``target`` can hold, to even where two are as near."""
    if shift == 0:
        for i in range(len(target)):
            target[i] = bits[i]
    else:
        half, one = np.uint32(0x7FFF), np.uint32(1)
        for i in range(len(target)):
            odd = (bits[i] >> shift) & one
            target[i] = np.uint32(bits[i] + half + odd) >> shift
