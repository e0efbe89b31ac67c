"""The compiled loops of both SVM solvers, over rows of float16, float32 or float64.

numba has no float16: such rows come as their bits, `uint16` (`as_rows`), and are widened one by one
into a buffer that stays in the cache while every class uses it. Nothing wide is kept.

All of them in one file, because numba's cache notices a change in this file only.
"""

from typing import Any, no_type_check

import numpy as np
from numba import njit

FROM_HALF = np.float32(2.0**112)  # moves a half's exponent bias of 15 to a single's 127
SUMS_MAY_REORDER = {"reassoc", "contract", "nsz"}  # lets the compiler sum in SIMD lanes
Rows = Any  # float rows, float16 as uint16; annotations of numba's arrays say nothing here


def as_rows(X: np.ndarray) -> Rows:
    """Return rows that the kernels read: a view of what is contiguous and float, else a copy."""
    if X.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        X = X.astype(np.float64)
    X = np.ascontiguousarray(X, dtype=X.dtype.newbyteorder("="))
    return X.view(np.uint16) if X.dtype == np.float16 else X


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def widen(row, wide):  # pragma: no cover - compiled
    """Copy a finite row into a buffer of float32 or float64, exactly."""
    if row.itemsize == 2:
        for i in range(row.shape[0]):
            half = np.uint32(row[i])
            size = (half & np.uint32(0x7FFF)) << np.uint32(13)
            sign = (half & np.uint32(0x8000)) << np.uint32(16)
            wide[i] = np.uint32(size | sign).view(np.float32) * FROM_HALF
    else:
        for i in range(row.shape[0]):
            wide[i] = row[i]


@njit(cache=True, nogil=True, fastmath=SUMS_MAY_REORDER)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def dot(a, b):  # pragma: no cover - compiled
    """Return the inner product."""
    total = a.dtype.type(0)
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def add(step, x, total):  # pragma: no cover - compiled
    """Add `step * x` to `total`."""
    for i in range(x.shape[0]):
        total[i] += step * x[i]


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def is_finite(row):  # pragma: no cover - compiled
    """Tell whether each number of a row is finite."""
    strange = 0
    if row.itemsize == 2:
        for i in range(row.shape[0]):
            strange += (np.uint32(row[i]) & np.uint32(0x7C00)) == np.uint32(0x7C00)
    else:
        for i in range(row.shape[0]):
            strange += row[i] - row[i] != 0  # also true of NaN
    return strange == 0


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def count_nodes(rows, members, scale, counts):  # pragma: no cover - compiled
    """Count each member's numbers that are not zero once scaled; -1: one is not finite."""
    wide = np.empty(rows.shape[1], np.float64)
    for at, r in enumerate(members):
        widen(rows[r], wide)
        count = 0
        for i in range(rows.shape[1]):
            wide[i] *= scale
            count += wide[i] != 0
        counts[at] = count if is_finite(rows[r]) and is_finite(wide) else -1


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def fill_nodes(rows, members, scale, bias, starts, index, value):  # pragma: no cover - compiled
    """Write each member as liblinear's nodes: what is not zero, the bias if any, and a mark."""
    dim = rows.shape[1]
    wide = np.empty(dim, np.float64)
    for i, r in enumerate(members):
        widen(rows[r], wide)
        at = starts[i]
        for column in range(dim):
            scaled = wide[column] * scale
            # Written in any case and overwritten after a zero: a branch would be guessed wrong.
            index[at], value[at] = column + 1, scaled
            at += scaled != 0
        if bias > 0:
            index[at], value[at] = dim + 1, bias
            at += 1
        index[at] = -1


@njit(cache=True, nogil=True, fastmath=SUMS_MAY_REORDER)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def node_hinge(first, past, labels, limits, weights, index, value):  # pragma: no cover - compiled
    """Return the sum of `limit * hinge` over the rows whose nodes are `first[i]:past[i]`."""
    total = 0.0
    for i in range(first.shape[0]):
        score = 0.0
        for at in range(first[i], past[i]):
            score += value[at] * weights[index[at] - 1]
        limit = limits[1] if labels[i] > 0 else limits[0]
        total += limit * max(0.0, 1.0 - labels[i] * score)
    return total


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def measure(rows, members, direction, squares, sides):  # pragma: no cover - compiled
    """Write `|x|²` of the members, infinite where a number is not finite, and `x · direction`."""
    wide = np.empty(rows.shape[1], np.float64)
    for r in members:
        widen(rows[r], wide)
        squares[r] = dot(wide, wide) if is_finite(rows[r]) else np.inf
        sides[r] = dot(wide, direction)


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def primal(rows, signed, scale, bias, weights, last):  # pragma: no cover - compiled
    """Write `w = Σ αᵢ yᵢ xᵢ` of every class, from `signed[row, class] = αᵢ yᵢ`."""
    wide = np.empty(rows.shape[1], weights.dtype)
    weights[:] = 0
    last[:] = 0
    for r in range(rows.shape[0]):
        widened = False
        for k in range(signed.shape[1]):
            if signed[r, k] != 0:
                if not widened:
                    widen(rows[r], wide)
                    widened = True
                add(weights.dtype.type(scale * signed[r, k]), wide, weights[k])
                last[k] += bias * signed[r, k]


@njit(cache=True, nogil=True, error_model="numpy")  # a zero row without a bias divides by zero
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def descend(
    rows, order, squares, labels, limits, scale, bias, alpha, active, weights, last, bounds, seen
):  # pragma: no cover - compiled
    """Go once through the active rows and solve each class's dual in that one coordinate.

    `bounds` holds each class's highest and lowest projected gradient of the pass before, beyond
    which a row at its limit is taken out; `seen` receives those of this pass.
    """
    wide = np.empty(rows.shape[1], weights.dtype)
    for r in order:
        widen(rows[r], wide)
        square = scale * scale * squares[r] + bias * bias
        for k in range(labels.shape[1]):
            if not active[r, k]:
                continue
            sign, was = labels[r, k], alpha[r, k]
            limit = limits[1] if sign > 0 else limits[0]
            score = scale * np.float64(dot(wide, weights[k])) + bias * last[k]
            gradient = sign * score - 1.0
            projected = gradient
            if was == 0:
                if gradient > bounds[0, k]:
                    active[r, k] = False
                    continue
                projected = min(gradient, 0.0)
            elif was == limit:
                if gradient < bounds[1, k]:
                    active[r, k] = False
                    continue
                projected = max(gradient, 0.0)
            seen[0, k] = max(seen[0, k], projected)
            seen[1, k] = min(seen[1, k], projected)
            if projected == 0:
                continue
            now = min(max(was - gradient / square, 0.0), limit)
            if now != was:
                alpha[r, k] = now
                step = sign * (now - was)
                add(weights.dtype.type(scale * step), wide, weights[k])
                last[k] += bias * step


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def judge(
    rows, order, labels, limits, scale, bias, alpha, weights, last, hinge, seen
):  # pragma: no cover - compiled
    """Sum each class's hinge losses, and tell its projected gradients, without any step."""
    wide = np.empty(rows.shape[1], weights.dtype)
    for r in order:
        widen(rows[r], wide)
        for k in range(labels.shape[1]):
            sign = labels[r, k]
            if sign == 0:
                continue
            limit = limits[1] if sign > 0 else limits[0]
            gradient = sign * (scale * dot(wide, weights[k]) + bias * last[k]) - 1.0
            hinge[k] += limit * max(0.0, -gradient)
            if alpha[r, k] == 0:
                gradient = min(gradient, 0.0)
            elif alpha[r, k] == limit:
                gradient = max(gradient, 0.0)
            seen[0, k] = max(seen[0, k], gradient)
            seen[1, k] = min(seen[1, k], gradient)
