"""Compiled loops over vectors that lie anywhere in a buffer, such as a file mapped to memory.

A vector is named by the byte at which it begins, which need not be a multiple of anything: in a
Parquet file a page's header, of any length, comes before it. Eight numbers are widened at a time,
by an instruction that numba does not know, and four vectors go through the loop together: one alone
waits for its own sum, and is read at half the speed that memory has.
"""

import platform
from typing import Any, no_type_check

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

LANES = 8  # eight sums and four vectors of eight singles fit the registers of AVX2
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


def widens_halves() -> bool:
    """Return whether the processor widens half floats: else LLVM calls what is not there."""
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return True
    return bool(llvm.get_host_cpu_features().get("f16c", False))


@intrinsic
@no_type_check
def load(typing, buffer, byte, like):
    """Return the eight numbers that begin at a byte of a contiguous `uint8` array."""

    def build(context, builder, signature, values):
        data = context.make_array(buffer)(context, builder, values[0]).data
        is_half = like.dtype == types.uint16
        held = ir.VectorType(ir.IntType(16) if is_half else ir.FloatType(), LANES)
        place = builder.bitcast(builder.gep(data, [values[1]]), held.as_pointer())
        raw = builder.load(place, align=1)
        return _widened(builder, raw) if is_half else raw

    return Singles()(buffer, types.intp, like), build


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


@intrinsic
@no_type_check
def store(typing, buffer, byte, singles):
    """Write eight singles into a contiguous `uint8` array, the first of them at a byte."""

    def build(context, builder, signature, values):
        data = context.make_array(buffer)(context, builder, values[0]).data
        place = builder.bitcast(builder.gep(data, [values[1]]), _SINGLES.as_pointer())
        builder.store(values[2], place, align=4)
        return context.get_dummy_value()

    return types.void(buffer, types.intp, singles), build


@intrinsic
@no_type_check
def zeros(typing):
    """Return eight zeros."""
    return Singles()(), lambda context, builder, signature, values: _each(_SINGLES, 0.0)


@intrinsic
@no_type_check
def more(typing, total, one, other):
    """Return `total + one * other`, rounded once where the processor can."""

    def build(context, builder, signature, values):
        product = builder.fmul(values[1], values[2], flags=("contract",))
        return builder.fadd(values[0], product, flags=("contract",))

    return total(total, one, other), build


@intrinsic
@no_type_check
def sum_of(typing, total):
    """Return the sum of the eight, pair by pair."""

    def build(context, builder, signature, values):
        parts = [builder.extract_element(values[0], ir.IntType(32)(i)) for i in range(LANES)]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [builder.fadd(one, other) for one, other in pairs]
        return parts[0]

    return types.float32(total), build


@intrinsic
@no_type_check
def product(typing, one, other):
    """Return the products, number by number."""
    return one(one, other), lambda context, builder, signature, values: builder.fmul(*values)


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def measure(buffer, starts, like, query, last, products, squares):  # pragma: no cover - compiled
    """Write `vector · query` and `|vector|²` of the vectors that begin at the bytes `starts`.

    `query` holds the bytes of float32 numbers, at least eight. Where they are no multiple of eight,
    the last eight are read once more, and times `last`: 1 for those that were left out, 0 for
    those that count already.
    """
    step, length, four = like.itemsize, len(query) // 4, len(starts) // 4 * 4
    whole, tail = length // LANES * LANES, length - LANES
    singles = np.empty(0, np.float32)
    for row in range(0, four, 4):
        a, b, c, d = starts[row], starts[row + 1], starts[row + 2], starts[row + 3]
        pa, pb, pc, pd = zeros(), zeros(), zeros(), zeros()
        sa, sb, sc, sd = zeros(), zeros(), zeros(), zeros()
        for i in range(0, whole, LANES):
            q, at = load(query, 4 * i, singles), step * i
            x = load(buffer, a + at, like)
            pa, sa = more(pa, x, q), more(sa, x, x)
            x = load(buffer, b + at, like)
            pb, sb = more(pb, x, q), more(sb, x, x)
            x = load(buffer, c + at, like)
            pc, sc = more(pc, x, q), more(sc, x, x)
            x = load(buffer, d + at, like)
            pd, sd = more(pd, x, q), more(sd, x, x)
        if whole < length:
            q, at, kept = load(query, 4 * tail, singles), step * tail, load(last, 0, singles)
            x = product(load(buffer, a + at, like), kept)
            pa, sa = more(pa, x, q), more(sa, x, x)
            x = product(load(buffer, b + at, like), kept)
            pb, sb = more(pb, x, q), more(sb, x, x)
            x = product(load(buffer, c + at, like), kept)
            pc, sc = more(pc, x, q), more(sc, x, x)
            x = product(load(buffer, d + at, like), kept)
            pd, sd = more(pd, x, q), more(sd, x, x)
        products[row], products[row + 1] = sum_of(pa), sum_of(pb)
        products[row + 2], products[row + 3] = sum_of(pc), sum_of(pd)
        squares[row], squares[row + 1] = sum_of(sa), sum_of(sb)
        squares[row + 2], squares[row + 3] = sum_of(sc), sum_of(sd)
    for row in range(four, len(starts)):
        p, s = zeros(), zeros()
        for i in range(0, whole, LANES):
            x = load(buffer, starts[row] + step * i, like)
            p, s = more(p, x, load(query, 4 * i, singles)), more(s, x, x)
        if whole < length:
            x = load(buffer, starts[row] + step * tail, like)
            x = product(x, load(last, 0, singles))
            p, s = more(p, x, load(query, 4 * tail, singles)), more(s, x, x)
        products[row], squares[row] = sum_of(p), sum_of(s)


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def gather(buffer, starts, out):  # pragma: no cover - compiled
    """Copy the vectors that begin at the bytes `starts` into the rows of `out`, as bytes."""
    for row in range(len(starts)):
        out[row] = buffer[starts[row] : starts[row] + out.shape[1]]


@njit(cache=True, nogil=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def widen(buffer, starts, like, out, length):  # pragma: no cover - compiled
    """Write the vectors that begin at the bytes `starts` into the rows of `out`, as float32.

    `out` holds bytes, and vectors have at least eight numbers: where they are no multiple of eight,
    the last eight are written once more.
    """
    step, tail, whole = like.itemsize, length - LANES, length // LANES * LANES
    flat, four = out.reshape(-1), len(starts) // 4 * 4
    for row in range(0, four, 4):
        a, b, c, d = starts[row], starts[row + 1], starts[row + 2], starts[row + 3]
        to = 4 * length * row
        for i in range(0, whole, LANES):
            at = to + 4 * i
            store(flat, at, load(buffer, a + step * i, like))
            store(flat, at + 4 * length, load(buffer, b + step * i, like))
            store(flat, at + 8 * length, load(buffer, c + step * i, like))
            store(flat, at + 12 * length, load(buffer, d + step * i, like))
    for row in range(four, len(starts)):
        for i in range(0, whole, LANES):
            store(flat, 4 * (length * row + i), load(buffer, starts[row] + step * i, like))
    if whole < length:
        for row in range(len(starts)):
            last = load(buffer, starts[row] + step * tail, like)
            store(flat, 4 * (length * row + tail), last)
