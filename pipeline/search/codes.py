"""The codes of rows, and the file that has those of a shard: batches of Arrow, mapped to memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int8

from pipeline.errors import InputError
from pipeline.store.footers import require_plain_arrow
from pipeline.store.place import Place, is_damage

AXES = b"sppnet.axes"  # in a file's metadata


@dataclass(frozen=True)
class Codes:
    """Rows in few numbers: `scales * (codes · q) + offset` is about the cosine with a query."""

    codes: Int8[np.ndarray, "rows numbers"]
    scales: Float32[np.ndarray, " rows"]
    lengths: Float32[np.ndarray, " rows"]
    """Of the vectors, for products that are no cosines."""


def joined(parts: Sequence[Codes]) -> Codes:
    """Return codes of several arrays of vectors as one."""
    columns = zip(*((each.codes, each.scales, each.lengths) for each in parts), strict=True)
    return Codes(*map(np.concatenate, columns))


def codes_schema(numbers: int, axes: str) -> pa.Schema:
    """Return the columns of a shard's codes, and in the metadata the digest of their axes."""
    held = {"codes": pa.binary(numbers), "scale": pa.float32(), "length": pa.float32()}
    fields = [pa.field(name, kind, nullable=False) for name, kind in held.items()]
    return pa.schema(fields, metadata={AXES: axes})


def to_batch(codes: Codes, schema: pa.Schema) -> pa.RecordBatch:
    """Return codes as a batch of a shard's file."""
    numbers = codes.codes.shape[1]
    buffer = pa.py_buffer(np.ascontiguousarray(codes.codes))
    column = pa.Array.from_buffers(pa.binary(numbers), len(codes.codes), [None, buffer])
    arrays = [column, pa.array(codes.scales), pa.array(codes.lengths)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def read_codes(root: Place, name: str, rows: int, schema: pa.Schema) -> Iterator[Codes]:
    """Yield the codes of one shard, batch by batch, where they lie.

    Args:
        root: of the store.
        name: of the file.
        rows: how many there must be.
        schema: that its columns must have, of the projection that the codes are read with.

    Raises:
        InputError: the file is missing or damaged, or has other rows, or codes of other axes.
        UnreachableError: its object store does not answer.
    """
    try:
        with root.open(name) as file:
            require_plain_arrow(file)
            reader = pa.ipc.open_file(file)
            if reader.schema != schema:
                raise pa.ArrowInvalid("other columns, or more or fewer numbers a row")
            if reader.schema.metadata != schema.metadata:
                raise pa.ArrowInvalid("made with other axes")
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate()
                rows -= len(batch)
                if rows < 0:
                    break  # they would be taken for another shard's
                codes = _codes(batch)
                if not (np.isfinite(codes.scales).all() and np.isfinite(codes.lengths).all()):
                    raise pa.ArrowInvalid("numbers that are not finite")
                yield codes
        if rows:
            raise pa.ArrowInvalid(f"{abs(rows):,} rows too {'few' if rows > 0 else 'many'}")
    except FileNotFoundError:
        raise InputError(f"{root}/{name} is missing: run spp index again") from None
    except (pa.ArrowException, OSError) as error:
        if not is_damage(error):
            raise
        raise InputError(f"{root}/{name} is damaged ({error}): run spp index again") from None


def _codes(batch: pa.RecordBatch) -> Codes:
    column = batch.column(0)
    numbers = column.type.byte_width
    flat = np.frombuffer(column.buffers()[1], np.int8, len(column) * numbers)
    return Codes(flat.reshape(-1, numbers), batch.column(1).to_numpy(), batch.column(2).to_numpy())
