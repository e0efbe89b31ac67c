"""Rows of a table grouped by class and ranked by score, without an object per row."""

import numpy as np
from jaxtyping import Float, Int


def groups(codes: Int[np.ndarray, " rows"], count: int) -> list[Int[np.ndarray, " some"]]:
    """The rows of each code 0 … count - 1, in row order."""
    small = codes.astype(np.int16) if count < 2**15 else codes  # int16 sorts by radix: 10× faster
    order = np.argsort(small, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=count))[:-1]) if count else []


def best_first(scores: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """The rows by falling score; equal scores keep row order. No score may be nan."""
    if scores.dtype != np.float32:
        return np.argsort(-scores, kind="stable")
    # Score and row in one whole number, which numpy sorts with vector instructions: 4× faster
    # than its stable argsort. Subtracting from zero makes one zero of both.
    bits = (np.float32(0) - scores).view(np.int32)
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # whole numbers in the order of the floats
    keys = (rising.astype(np.int64) << 32) | np.arange(len(scores))
    keys.sort()
    return keys & 0xFFFFFFFF
