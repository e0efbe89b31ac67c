"""The compiled loop of the first pass: codes of one byte against a query."""

from typing import no_type_check

from numba import njit
from numpy import float32


# Sums in any order: what is nearest by them is scored again. 1.5 times as fast as in a given one.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def multiply(codes, query, products):  # pragma: no cover - compiled
    """Write the product of each row of int8 codes with a query of float32."""
    for row in range(codes.shape[0]):
        total = float32(0)
        for i in range(codes.shape[1]):
            total += query[i] * float32(codes[row, i])
        products[row] = total
