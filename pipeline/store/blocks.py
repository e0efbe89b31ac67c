"""Vectors where they lie: held against another one, multiplied or copied row by row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Shaped, UInt8

from pipeline.errors import InputError
from pipeline.store import row_kernels
from pipeline.store.schema import VectorSpec


@dataclass(frozen=True)
class Query:
    """A vector that others are held against, as the kernel reads it."""

    values: Float32[np.ndarray, " dim"]
    norm: float
    """Its length."""
    last: Float32[np.ndarray, " lanes"]
    """Which of the last eight numbers count once more (see `row_kernels.measure`)."""


@dataclass(frozen=True)
class Weights:
    """Columns that vectors are multiplied with, as the kernel reads them."""

    values: Float32[np.ndarray, "columns dim"]
    last: Float32[np.ndarray, " lanes"]
    """As in `Query`."""

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, chosen: slice) -> "Weights":
        """Return some of the columns. Nothing is copied."""
        return Weights(self.values[chosen], self.last)


def weights(columns: Float[np.ndarray, "columns dim"]) -> Weights:
    """Return columns made ready."""
    return Weights(np.ascontiguousarray(columns, dtype=np.float32), _last(columns.shape[1]))


def query(vector: Float[np.ndarray, " dim"]) -> Query:
    """Return a vector made ready.

    Raises:
        InputError: a number is not finite.
    """
    values = np.ascontiguousarray(vector, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError("the vector to compare with has numbers that are not finite")
    return Query(values, float(np.linalg.norm(values.astype(np.float64))), _last(len(values)))


def _last(length: int) -> Float32[np.ndarray, " lanes"]:
    last = np.zeros(row_kernels.LANES, np.float32)
    last[row_kernels.LANES - length % row_kernels.LANES :] = 1
    return last


def cosines(
    products: Float32[np.ndarray, " rows"], squares: Float32[np.ndarray, " rows"], given: Query
) -> Float64[np.ndarray, " rows"]:
    """Return rows' cosines with a vector, from what `Block.measure` returns."""
    wide = products.astype(np.float64)
    lengths = np.sqrt(squares.astype(np.float64)) * given.norm
    # A vector of zeros is like no other; NaN would be sorted before all others.
    found = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return found.clip(-1, 1)  # beyond which sums of float32 round


@dataclass(frozen=True)
class Block:
    """Vectors that lie in one buffer, each at a byte of its own."""

    buffer: UInt8[np.ndarray, " bytes"]
    starts: Int[np.ndarray, " rows"]
    spec: VectorSpec

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, chosen: Any) -> "Block":
        """Return some of the vectors: a slice, or numbers or flags of rows. Nothing is copied."""
        return Block(self.buffer, self.starts[chosen], self.spec)

    def take(self) -> Float[np.ndarray, "rows dim"]:
        """Return a copy of the vectors, as they are stored."""
        out = np.empty((len(self), self.spec.length), self.spec.dtype)
        row_kernels.gather(self.buffer, self.starts, out.view(np.uint8))
        return out

    def multiply(self, given: Weights) -> Float32[np.ndarray, "rows columns"]:
        """Return the product of each vector with each column.

        It is the same to the bit, whatever other vectors and columns are asked for beside it.
        """
        self._check(given.values.shape[1])
        if self.spec.length < row_kernels.LANES:
            # Not `@`: a library's product rounds by how many rows and columns there are.
            wide = self.take().astype(np.float32)
            return (wide[:, None] * given.values).sum(axis=2)
        out = np.empty((len(self), len(given)), np.float32)
        like, values = row_kernels.LIKE[self.spec.dtype], given.values.reshape(-1).view(np.uint8)
        last = given.last.view(np.uint8)
        row_kernels.multiply(self.buffer, self.starts, like, values, last, out)
        return out

    def measure(
        self, given: Query
    ) -> tuple[Float32[np.ndarray, " rows"], Float32[np.ndarray, " rows"]]:
        """Return each vector's product with another one, and its own squared length."""
        self._check(len(given.values))
        if self.spec.length < row_kernels.LANES:
            wide = self.take().astype(np.float32)
            return wide @ given.values, (wide * wide).sum(axis=1)
        products, squares = np.empty((2, len(self)), np.float32)
        like, values = row_kernels.LIKE[self.spec.dtype], given.values.view(np.uint8)
        last = given.last.view(np.uint8)
        row_kernels.measure(self.buffer, self.starts, like, values, last, products, squares)
        return products, squares

    def lengths(self) -> Float32[np.ndarray, " rows"]:
        """Return each vector's own length; 1 where it is zero, so that one may divide by it."""
        nothing = query(np.zeros(self.spec.length, np.float32))
        lengths = np.sqrt(self.measure(nothing)[1])
        return np.where(lengths > 0, lengths, np.float32(1))

    def _check(self, length: int) -> None:
        if self.spec.length != length:
            raise InputError(
                f"the vector to compare with has {length:,} numbers, those of the store "
                f"{self.spec.length:,}: they were made with other layers or levels"
            )


def block_of(vectors: Shaped[np.ndarray, "rows dim"], spec: VectorSpec) -> Block:
    """Return vectors of an array as a block."""
    flat = np.ascontiguousarray(vectors)
    starts = np.arange(len(flat), dtype=np.int64) * spec.row_bytes
    return Block(flat.reshape(-1).view(np.uint8), starts, spec)


def as_block(vectors: Float[np.ndarray, "rows dim"]) -> Block:
    """Return numbers as a block: halves as they are, all others as singles."""
    dtype = "float16" if vectors.dtype == np.float16 else "float32"
    return block_of(vectors.astype(dtype, copy=False), VectorSpec(vectors.shape[1], dtype))
