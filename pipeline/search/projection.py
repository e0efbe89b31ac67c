"""Vectors in few numbers: their principal axes, one byte each.

A vector of length 1 is turned to the axes along which a sample varies most, and each number along
them becomes one of 255 steps of the row's own scale. A query keeps its precision: then a product
of 512 such numbers ranks rows almost as that of 7,168 halves does.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from pipeline.errors import InputError
from pipeline.search.codes import Codes, codes_schema
from pipeline.store.blocks import Query

STEPS = 127
MORE_AXES = 32  # looked for beside those that are kept: the last ones converge slowest
ROUNDS = 3  # of subspace iteration


@dataclass(frozen=True)
class Projection:
    """From vectors to few numbers."""

    mean: Float32[np.ndarray, " dim"]
    """Of the sample's vectors, each of length 1."""
    axes: Float32[np.ndarray, "dim numbers"]

    def codes(self, vectors: Float[Tensor, "rows dim"]) -> Codes:
        """Return vectors in few numbers; zeros stay what they are, at a cosine of 0 to all."""
        wide = vectors.float()
        lengths = torch.linalg.vector_norm(wide, dim=1)
        axes = torch.from_numpy(self.axes)
        turned = (wide @ axes).div_(lengths.clamp(min=torch.finfo().tiny)[:, None])
        turned -= torch.from_numpy(self.mean) @ axes
        scales = turned.abs().amax(dim=1) / STEPS
        codes = (turned / scales.clamp(min=torch.finfo().tiny)[:, None]).round_()
        return Codes(codes.to(torch.int8).numpy(), scales.numpy(), lengths.numpy())

    def turned(self, query: Query) -> tuple[Float32[np.ndarray, " numbers"], float]:
        """Return a query's numbers, of length 1 before, and the offset that its cosines have."""
        unit = query.values / (query.norm or 1.0)
        return (unit @ self.axes).astype(np.float32), float(unit @ self.mean)

    def to_bytes(self) -> bytes:
        """Return it as the bytes of a file."""
        return save({"mean": self.mean, "axes": self.axes})

    @cached_property
    def digest(self) -> str:
        """What tells it from all others: bits differ from one kind of processor to another."""
        return sha256(self.to_bytes()).hexdigest()

    @property
    def schema(self) -> pa.Schema:
        """Columns of the codes that it makes."""
        return codes_schema(self.axes.shape[1], self.digest)


def from_bytes(data: bytes, where: str, length: int) -> Projection:
    """Return what `to_bytes` gave.

    Args:
        data: the bytes.
        where: what an error calls them.
        length: of the vectors.

    Raises:
        InputError: the bytes are not that, or it is of vectors of another length.
    """
    try:
        held = load(data)
        mean, axes = held["mean"], held["axes"]
        if mean.shape != (length,) or axes.ndim != 2 or len(axes) != length or not axes.size:
            raise ValueError(f"axes {axes.shape} and mean {mean.shape} of vectors of {length:,}")
        if not all(each.dtype == np.float32 and np.isfinite(each).all() for each in (mean, axes)):
            raise ValueError("numbers that are not finite, or no float32")
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{where} cannot be read ({error}): run spp index again") from None
    return Projection(mean, axes)


def fit(sample: Float[Tensor, "rows dim"], numbers: int, seed: int) -> Projection:
    """Return the axes along which a sample varies most.

    By subspace iteration from random vectors (Halko, Martinsson, Tropp 2011, algorithm 4.4).

    Args:
        sample: vectors of any length.
        numbers: axes to keep; fewer where the sample has fewer rows or columns.
        seed: of the random vectors.
    """
    wide = sample.float()
    unit = wide / torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp(min=torch.finfo().tiny)
    mean = unit.mean(dim=0)
    centred = unit - mean
    numbers = min(numbers, *centred.shape)
    wanted = min(numbers + MORE_AXES, *centred.shape)
    start = torch.randn(centred.shape[1], wanted, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(start).Q
    for _ in range(ROUNDS):
        image = torch.linalg.qr(centred @ basis).Q
        basis = torch.linalg.qr(centred.T @ image).Q
    turned = torch.linalg.svd(centred @ basis, full_matrices=False).Vh
    axes = np.ascontiguousarray((basis @ turned.T)[:, :numbers].numpy())
    return Projection(mean.numpy(), axes)
