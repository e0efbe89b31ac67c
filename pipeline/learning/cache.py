"""The training rows of one shard: vectors that some class learns from, and which classes do.

| column | type | |
|---|---|---|
| row | int32 | place of the window in its shard |
| positive, negative | binary | one bit a class, most significant first |
| vector | as in the store | |
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from pipeline.store.schema import METADATA_KEY, VectorSpec, vectors
from pipeline.store.shards import ShardWriter, shard_path

ROW_GROUP_BYTES = 32_000_000

# The underscore: the parts of a cache differ in length.
Rows = tuple[
    Int[np.ndarray, " _rows"],
    Bool[np.ndarray, "_rows classes"],
    Bool[np.ndarray, "_rows classes"],
    Float[np.ndarray, "_rows dim"],
]


def write_cache(
    folder: Path, shard_id: str, spec: VectorSpec, classes: int, parts: Iterable[Rows]
) -> None:
    """Write a shard's cache from `(row, positive, negative, vectors)` parts, whole or not."""
    bits = pa.binary((classes + 7) // 8)
    schema = pa.schema(
        [
            pa.field("row", pa.int32(), nullable=False),
            pa.field("positive", bits, nullable=False),
            pa.field("negative", bits, nullable=False),
            pa.field("vector", spec.arrow_type, nullable=False),
        ],
        metadata={METADATA_KEY: json.dumps(asdict(spec))},
    )
    with ShardWriter(folder, shard_id, schema, ROW_GROUP_BYTES) as writer:
        for row, positive, negative, held in parts:
            columns = [
                pa.array(row, pa.int32()),
                _pack(positive, bits),
                _pack(negative, bits),
                spec.to_arrow(held),
            ]
            writer.write(pa.table(columns, schema=schema))
        writer.commit("cache", {}, {}, "")


def members(
    folder: Path, shard_id: str, rows: int, classes: int
) -> tuple[Bool[np.ndarray, "rows classes"], Bool[np.ndarray, "rows classes"]]:
    """Return which classes hold each of a shard's `rows` windows as positive and as negative."""
    positive, negative = np.zeros((2, rows, classes), dtype=bool)
    path = shard_path(folder, shard_id)
    table = pq.read_table(path, columns=["row", "positive", "negative"], memory_map=True)
    places = table["row"].to_numpy()
    positive[places] = _unpack(table["positive"], classes)
    negative[places] = _unpack(table["negative"], classes)
    return positive, negative


def class_rows(
    folder: Path, shard_ids: Iterable[str], classes: int, k: int
) -> Iterator[tuple[Float[np.ndarray, "rows dim"], Bool[np.ndarray, " rows"]]]:
    """Yield by row group the vectors that class `k` trains on, and which are positive."""
    for shard_id in shard_ids:
        with pq.ParquetFile(shard_path(folder, shard_id), memory_map=True) as file:
            for group in range(file.num_row_groups):
                bits = file.read_row_group(group, columns=["positive", "negative"])
                positive = _unpack(bits["positive"], classes)[:, k]
                wanted = np.flatnonzero(positive | _unpack(bits["negative"], classes)[:, k])
                if len(wanted):
                    held = file.read_row_group(group, columns=["vector"])
                    yield vectors(held)[wanted], positive[wanted]


def _pack(flags: Bool[np.ndarray, "rows classes"], bits: pa.DataType) -> pa.Array:
    packed = np.ascontiguousarray(np.packbits(flags, axis=1))
    return pa.Array.from_buffers(bits, len(packed), [None, pa.py_buffer(packed)])


def _unpack(column: pa.ChunkedArray, classes: int) -> Bool[np.ndarray, "rows classes"]:
    width = (classes + 7) // 8
    flat = b"".join(column.to_pylist())
    packed = np.frombuffer(flat, dtype=np.uint8).reshape(-1, width)
    return np.unpackbits(packed, axis=1, count=classes).astype(bool)
