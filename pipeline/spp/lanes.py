"""Vectors of 64 bytes for compiled loops: load, take the larger, store past the caches.

LLVM makes of them what the processor has: one register of AVX-512, two of AVX2, four of SSE or
NEON. numba has nothing that stores past the caches, which alone halves the time of a large result:
otherwise every line of it is read before it is written. And a running maximum stays in a register,
where a plain loop over channels keeps it in memory.

Numbers are compared as *keys*: the bits of a float as a signed integer, all but the sign inverted
where it is negative. Keys have the order of the floats, -0.0 below +0.0, and a NaN, whose sign is
dropped, above everything: integer maxima are exact for every float type and never lose a NaN.

numba keeps what it compiled while the kernel's own file has the same content. So `cpu.py` holds the
digest of this file, and a test says when it is another.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANE_BYTES = 64


class Lanes(types.Type):
    """64 bytes of signed integers of one width."""

    def __init__(self, dtype: Any):
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """A vector of LLVM's."""

    def __init__(self, known: Any, lanes: Lanes):
        bits = lanes.dtype.bitwidth
        super().__init__(known, lanes, ir.VectorType(ir.IntType(bits), 8 * LANE_BYTES // bits))


@intrinsic
@no_type_check
def pointer(typing, array):
    """Return where a contiguous array lies; somebody else must keep the array.

    Handing an array to a function counts references to it, and counting, which is atomic, waits
    for every byte that is being streamed: with arrays for each bin and level, pooling took twice
    as long.
    """

    def build(context, builder, signature, values):
        return context.make_array(array)(context, builder, values[0]).data

    return types.CPointer(array.dtype)(array), build


@intrinsic
@no_type_check
def lanes_of(typing, numbers):
    """Return how many numbers, of those that a pointer points to, make 64 bytes."""

    def build(context, builder, signature, values):
        return context.get_constant(types.intp, LANE_BYTES // _bytes(numbers))

    return types.intp(numbers), build


@intrinsic
@no_type_check
def load(typing, numbers, offset):
    """Return the lanes that begin at an element."""

    def build(context, builder, signature, values):
        return builder.load(_place(context, builder, numbers, values), align=_bytes(numbers))

    return Lanes(numbers.dtype)(numbers, types.intp), build


@intrinsic
@no_type_check
def store(typing, numbers, offset, lanes):
    """Write lanes, the first of them to an element."""

    def build(context, builder, signature, values):
        builder.store(values[2], _place(context, builder, numbers, values), align=_bytes(numbers))
        return context.get_dummy_value()

    return types.void(numbers, types.intp, lanes), build


@intrinsic
@no_type_check
def stream(typing, numbers, offset, lanes):
    """Write lanes to memory, past the caches; the place must be a multiple of 64 bytes."""

    def build(context, builder, signature, values):
        place = _place(context, builder, numbers, values)
        written = builder.store(values[2], place, align=LANE_BYTES)
        yes = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        written.set_metadata("nontemporal", yes)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, lanes), build


@intrinsic
@no_type_check
def end_streams(typing):
    """Make what was streamed visible to other threads."""

    def build(context, builder, signature, values):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), build


@intrinsic
@no_type_check
def larger(typing, one, other):
    """Return the larger of each pair."""

    def build(context, builder, signature, values):
        return builder.select(builder.icmp_signed(">", *values), *values)

    return one(one, other), build


@intrinsic
@no_type_check
def keys(typing, bits, infinity):
    """Return the keys of floats, given their bits and those of infinity."""

    def build(context, builder, signature, values):
        number, type_ = values[0], values[0].type
        size = builder.and_(number, _each(type_, (1 << type_.element.width - 1) - 1))
        limit = builder.insert_element(
            ir.Constant(type_, ir.Undefined), values[1], ir.Constant(ir.IntType(32), 0)
        )
        first = ir.Constant(ir.VectorType(ir.IntType(32), type_.count), None)
        limit = builder.shuffle_vector(limit, ir.Constant(type_, ir.Undefined), first)
        is_nan = builder.icmp_signed(">", size, limit)
        return builder.select(is_nan, size, _turned(builder, number))

    return bits(bits, bits.dtype), build


@intrinsic
@no_type_check
def floats(typing, ordered):
    """Return the bits of the floats that these are the keys of."""

    def build(context, builder, signature, values):
        return _turned(builder, values[0])

    return ordered(ordered), build


@no_type_check
def _turned(builder, number):
    """All bits but the sign inverted where the number is negative: its own inverse."""
    sign = builder.ashr(number, _each(number.type, number.type.element.width - 1))
    return builder.xor(number, builder.lshr(sign, _each(number.type, 1)))


@no_type_check
def _each(type_, value):
    return ir.Constant(type_, [value] * type_.count)


@no_type_check
def _place(context, builder, numbers, values):
    """Address of an element, as that of a vector."""
    vector = context.get_value_type(Lanes(numbers.dtype))
    return builder.bitcast(builder.gep(values[0], [values[1]]), vector.as_pointer())


@no_type_check
def _bytes(numbers):
    return numbers.dtype.bitwidth // 8
