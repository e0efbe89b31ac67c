"""Compiled loops over vectors that lie anywhere in a buffer, such as a file mapped to memory.

A vector is named by the byte at which it begins, which need not be a multiple of anything: in a
Parquet file a page's header, of any length, comes before it. Eight numbers are widened at a time,
by an instruction that numba does not know, and four vectors go through the loop together: one alone
waits for its own sum, and is read at half the speed that memory has. Where fewer are left, the last
one is taken again.
"""

import platform
from itertools import product
from typing import Any, no_type_check

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 8  # numbers that are widened at a time
TILE = 4  # vectors, and columns of weights, that go through a loop together
PRODUCTS = TILE * TILE
NEAR = 16  # vectors that are multiplied with one tile of weights after the other: they stay near
_SINGLES = ir.VectorType(ir.FloatType(), LANES)
_REBIAS = 2.0**112  # moves a half's exponent bias of 15 to a single's 127

LIKE: dict[str, Any] = {"float16": np.empty(0, np.uint16), "float32": np.empty(0, np.float32)}
"""What the loops take to know the numbers' type; numba has no half floats."""


class Singles(types.Type):
    """Eight floats of 32 bits."""

    def __init__(self) -> None:
        super().__init__(name="Singles")


@register_model(Singles)
class SinglesModel(models.PrimitiveModel):
    """A vector of LLVM's."""

    def __init__(self, known: Any, singles: Singles):
        super().__init__(known, singles, _SINGLES)


SINGLES = Singles()


def widens_halves() -> bool:
    """Return whether the processor widens half floats: else LLVM calls what is not there."""
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return True
    return bool(llvm.get_host_cpu_features().get("f16c", False))


@intrinsic
@no_type_check
def load(typing, buffer, starts, byte, like):
    """Return eight numbers of each of some vectors of a contiguous `uint8` array.

    Their first bytes are `starts`, a tuple, and the eight begin `byte` bytes behind those.
    """

    def build(context, builder, signature, values):
        data = context.make_array(buffer)(context, builder, values[0]).data
        is_half = like.dtype == types.uint16
        held = ir.VectorType(ir.IntType(16) if is_half else ir.FloatType(), LANES)
        loaded = []
        for k in range(starts.count):
            start = builder.add(builder.extract_value(values[1], k), values[2])
            place = builder.bitcast(builder.gep(data, [start]), held.as_pointer())
            raw = builder.load(place, align=1)
            loaded.append(_widened(builder, raw) if is_half else raw)
        return cgutils.pack_array(builder, loaded)

    return types.UniTuple(SINGLES, starts.count)(buffer, starts, types.intp, like), build


@no_type_check
def _widened(builder, raw):
    if widens_halves():
        halves = builder.bitcast(raw, ir.VectorType(ir.HalfType(), LANES))
        return builder.fpext(halves, _SINGLES)
    # The bits of a finite half in a single's places; its exponent is put right by a product.
    wide = builder.zext(raw, ir.VectorType(ir.IntType(32), LANES))
    size = builder.shl(builder.and_(wide, _each(wide.type, 0x7FFF)), _each(wide.type, 13))
    sign = builder.shl(builder.and_(wide, _each(wide.type, 0x8000)), _each(wide.type, 16))
    return builder.fmul(
        builder.bitcast(builder.or_(size, sign), _SINGLES), _each(_SINGLES, _REBIAS)
    )


@no_type_check
def _each(type_, value):
    return ir.Constant(type_, [value] * LANES)


@intrinsic(prefer_literal=True)
@no_type_check
def zeros(typing, count):
    """Return sums of nothing: eight zeros so many times."""
    made = types.UniTuple(SINGLES, count.literal_value)
    return made(count), lambda context, builder, signature, values: context.get_constant_null(made)


@intrinsic
@no_type_check
def add_products(typing, sums, rows, columns):
    """Return the sums, row by row, with the product of each row and each column added."""

    def build(context, builder, signature, values):
        pairs = product(_parts(builder, values[1]), _parts(builder, values[2]))
        return _added(builder, values[0], pairs)

    return sums(sums, rows, columns), build


@intrinsic
@no_type_check
def add_squares(typing, sums, rows):
    """Return the sums with the square of each row added."""

    def build(context, builder, signature, values):
        rows = _parts(builder, values[1])
        return _added(builder, values[0], zip(rows, rows, strict=True))

    return sums(sums, rows), build


@intrinsic
@no_type_check
def times(typing, rows, flags):
    """Return the rows, number by number times the only vector of `flags`."""

    def build(context, builder, signature, values):
        (kept,) = _parts(builder, values[1])
        parts = [builder.fmul(row, kept) for row in _parts(builder, values[0])]
        return cgutils.pack_array(builder, parts)

    return rows(rows, flags), build


@intrinsic
@no_type_check
def totals(typing, sums):
    """Return the eight of each sum added up, pair by pair."""

    def build(context, builder, signature, values):
        added = []
        for eight in _parts(builder, values[0]):
            parts = [builder.extract_element(eight, ir.IntType(32)(i)) for i in range(LANES)]
            while len(parts) > 1:
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [builder.fadd(one, other) for one, other in pairs]
            added += parts
        return cgutils.pack_array(builder, added)

    return types.UniTuple(types.float32, sums.count)(sums), build


@no_type_check
def _parts(builder, packed):
    return [builder.extract_value(packed, k) for k in range(packed.type.count)]


@no_type_check
def _added(builder, sums, pairs):
    """Add products to sums, rounded once where the processor can."""
    once = ("contract",)
    parts = [
        builder.fadd(total, builder.fmul(one, other, flags=once), flags=once)
        for total, (one, other) in zip(_parts(builder, sums), pairs, strict=True)
    ]
    return cgutils.pack_array(builder, parts)


@njit
@no_type_check
def _four(first, stop):  # pragma: no cover - compiled
    """Return a number and the three behind it; the last one again where there are fewer."""
    last = stop - 1
    return first, min(first + 1, last), min(first + 2, last), min(first + 3, last)


@njit
@no_type_check
def _scaled(four, step):  # pragma: no cover - compiled
    return four[0] * step, four[1] * step, four[2] * step, four[3] * step


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def measure(buffer, starts, like, query, last, products, squares):  # pragma: no cover - compiled
    """Write `vector · query` and `|vector|²` of the vectors that begin at the bytes `starts`.

    `query` holds the bytes of float32 numbers, at least eight. Where they are no multiple of eight,
    the last eight are read once more, and times `last`: 1 for those that were left out, 0 for
    those that count already.
    """
    step, length = like.itemsize, len(query) // 4
    whole, tail = length // LANES * LANES, length - LANES
    singles = np.empty(0, np.float32)
    for row in range(0, len(starts), TILE):
        rows = _four(row, len(starts))
        at = starts[rows[0]], starts[rows[1]], starts[rows[2]], starts[rows[3]]
        p, s = zeros(TILE), zeros(TILE)
        for i in range(0, whole, LANES):
            x = load(buffer, at, step * i, like)
            p = add_products(p, x, load(query, (0,), 4 * i, singles))
            s = add_squares(s, x)
        if whole < length:
            x = times(load(buffer, at, step * tail, like), load(last, (0,), 0, singles))
            p = add_products(p, x, load(query, (0,), 4 * tail, singles))
            s = add_squares(s, x)
        p, s = totals(p), totals(s)
        for k in range(TILE):
            products[rows[k]], squares[rows[k]] = p[k], s[k]


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def multiply(buffer, starts, like, weights, last, out):  # pragma: no cover - compiled
    """Write the product of each vector with each column of weights; `out` is `[rows, columns]`.

    `weights` holds the bytes of a float32 matrix `[columns, length]`; `last` is as in `measure`.
    A product is the same to the bit, whatever rows and columns stand beside it.
    """
    step, columns, length = like.itemsize, out.shape[1], len(weights) // 4 // max(out.shape[1], 1)
    whole, tail = length // LANES * LANES, length - LANES
    singles = np.empty(0, np.float32)
    for near in range(0, len(starts), NEAR):
        stop = min(near + NEAR, len(starts))
        for column in range(0, columns, TILE):
            cols = _four(column, columns)
            w = _scaled(cols, 4 * length)
            for row in range(near, stop, TILE):
                rows = _four(row, stop)
                at = starts[rows[0]], starts[rows[1]], starts[rows[2]], starts[rows[3]]
                sums = zeros(PRODUCTS)
                for i in range(0, whole, LANES):
                    x = load(buffer, at, step * i, like)
                    sums = add_products(sums, x, load(weights, w, 4 * i, singles))
                if whole < length:
                    x = times(load(buffer, at, step * tail, like), load(last, (0,), 0, singles))
                    sums = add_products(sums, x, load(weights, w, 4 * tail, singles))
                added = totals(sums)
                for k in range(PRODUCTS):
                    out[rows[k // TILE], cols[k % TILE]] = added[k]


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def gather(buffer, starts, out):  # pragma: no cover - compiled
    """Copy the vectors that begin at the bytes `starts` into the rows of `out`, as bytes."""
    for row in range(len(starts)):
        out[row] = buffer[starts[row] : starts[row] + out.shape[1]]
