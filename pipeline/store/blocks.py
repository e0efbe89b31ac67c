"""Vectors where they lie: held against another one, widened or copied row by row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped, UInt8

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


def query(vector: Float[np.ndarray, " dim"]) -> Query:
    """Return a vector made ready.

    Raises:
        InputError: a number is not finite.
    """
    values = np.ascontiguousarray(vector, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError("the vector to compare with has numbers that are not finite")
    last = np.zeros(row_kernels.LANES, np.float32)
    last[row_kernels.LANES - len(values) % row_kernels.LANES :] = 1
    return Query(values, float(np.linalg.norm(values.astype(np.float64))), last)


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

    def widen(self, out: Float32[np.ndarray, "rows dim"]) -> None:
        """Write the vectors into an array of singles, which every number is exactly."""
        if self.spec.length < row_kernels.LANES:
            out[:] = self.take()
            return
        like = row_kernels.LIKE[self.spec.dtype]
        row_kernels.widen(self.buffer, self.starts, like, out.view(np.uint8), self.spec.length)

    def measure(
        self, given: Query
    ) -> tuple[Float32[np.ndarray, " rows"], Float32[np.ndarray, " rows"]]:
        """Return each vector's product with another one, and its own squared length."""
        if self.spec.length != len(given.values):
            raise InputError(
                f"the vector to compare with has {len(given.values):,} numbers, those of the store "
                f"{self.spec.length:,}: they were made with other layers or levels"
            )
        if self.spec.length < row_kernels.LANES:
            wide = self.take().astype(np.float32)
            return wide @ given.values, (wide * wide).sum(axis=1)
        products, squares = np.empty((2, len(self)), np.float32)
        like, values = row_kernels.LIKE[self.spec.dtype], given.values.view(np.uint8)
        last = given.last.view(np.uint8)
        row_kernels.measure(self.buffer, self.starts, like, values, last, products, squares)
        return products, squares


def block_of(vectors: Shaped[np.ndarray, "rows dim"], spec: VectorSpec) -> Block:
    """Return vectors of an array as a block."""
    flat = np.ascontiguousarray(vectors)
    starts = np.arange(len(flat), dtype=np.int64) * spec.row_bytes
    return Block(flat.reshape(-1).view(np.uint8), starts, spec)
