"""The columns of a shard, and the vector in its two layouts (HOUSE §5).

| column | type | |
|---|---|---|
| image_id | string | sorted |
| window_id | int32 | sorted within the image |
| x_min y_min x_max y_max | float32 | SPEC §1, pixels of the original image |
| scale_px | int16 | shorter side at which the window was pooled |
| source | dictionary | selective_search, grid, file, ground_truth |
| split | dictionary | name of the image set |
| vector | fixed-size binary, or list | float16 or float32; absent in a store of maps |
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from pipeline.errors import InputError

GROUND_TRUTH = "ground_truth"
BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
METADATA_KEY = b"sppnet.vector"
DTYPES = ("float16", "float32")
LONGEST_VECTOR = 1 << 24  # numbers; pool5 of the widest networks has 100,000

_WORD = pa.dictionary(pa.int32(), pa.string())
SCALARS = (
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("window_id", pa.int32(), nullable=False),
    *(pa.field(name, pa.float32(), nullable=False) for name in BOX_COLUMNS),
    pa.field("scale_px", pa.int16(), nullable=False),
    pa.field("source", _WORD, nullable=False),
    pa.field("split", _WORD, nullable=False),
)

CLASSES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
DETECTIONS = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("image_id", pa.string()),
            ("class", pa.string()),
            ("score", pa.float32()),
            *((corner, pa.float32()) for corner in BOX_COLUMNS),
        )
    ]
)
"""What `pipeline.detection` finds."""


@dataclass(frozen=True)
class VectorSpec:
    """What the `vector` column holds; it travels in the schema's metadata."""

    length: int
    dtype: Literal["float16", "float32"] = "float16"
    layout: Literal["binary", "list"] = "binary"

    @property
    def row_bytes(self) -> int:
        """Bytes of one vector."""
        return self.length * np.dtype(self.dtype).itemsize

    @property
    def arrow_type(self) -> pa.DataType:
        """Type of the column: never nullable items, which cost a factor of two to read."""
        if self.layout == "binary":
            return pa.binary(self.row_bytes)
        # "element" is what Parquet calls it when it is read again.
        item = pa.field("element", pa.from_numpy_dtype(np.dtype(self.dtype)), nullable=False)
        return pa.list_(item, self.length)

    def schema(self) -> pa.Schema:
        """Return the schema of a shard."""
        column = pa.field("vector", self.arrow_type, nullable=False)
        return pa.schema([*SCALARS, column], metadata={METADATA_KEY: json.dumps(asdict(self))})

    def to_arrow(self, array: Float[np.ndarray, "windows dim"]) -> pa.Array:
        """Return the column of these vectors, without a copy where the dtype fits."""
        flat = np.ascontiguousarray(array, dtype=self.dtype)
        buffer = pa.py_buffer(flat)
        if self.layout == "binary":
            return pa.Array.from_buffers(self.arrow_type, len(flat), [None, buffer])
        items = pa.Array.from_buffers(
            pa.from_numpy_dtype(np.dtype(self.dtype)), flat.size, [None, buffer]
        )
        return pa.FixedSizeListArray.from_arrays(items, type=self.arrow_type)

    def to_numpy(self, column: pa.Array) -> Float[np.ndarray, "windows dim"]:
        """Return the vectors of a column, without a copy."""
        if self.layout == "list":
            return column.flatten().to_numpy(zero_copy_only=True).reshape(-1, self.length)
        flat = np.frombuffer(column.buffers()[1], dtype=self.dtype)
        start = column.offset * self.length
        return flat[start : start + len(column) * self.length].reshape(-1, self.length)


def read_spec(schema: pa.Schema, name: str = "table", *, pooled: bool = False) -> VectorSpec:
    """Return what the `vector` column of `schema` holds.

    Args:
        schema: of a table or a shard.
        name: what an error calls it.
        pooled: whether the column is absent, for vectors are pooled from maps when they are read.

    Raises:
        InputError: the metadata is absent or does not fit the column.
    """
    try:
        spec = VectorSpec(**json.loads((schema.metadata or {})[METADATA_KEY]))
        _require_known(spec)
        held = spec.arrow_type if pooled else schema.field("vector").type
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(f"{name} has no readable vector column; it is not a shard") from None
    if held != spec.arrow_type:
        raise InputError(f"{name} holds vectors as {held}, its metadata says {spec.arrow_type}")
    return spec


def _require_known(spec: VectorSpec) -> None:
    """Check what JSON of others may say."""
    known = spec.dtype in DTYPES and spec.layout in ("binary", "list")
    if not known or type(spec.length) is not int or not 0 < spec.length <= LONGEST_VECTOR:
        raise ValueError(f"{spec} is no vector")


def require_columns(schema: pa.Schema, spec: VectorSpec, name: str, *, pooled: bool) -> None:
    """Check that a shard has the columns that shards have, none with nulls.

    Args:
        schema: of the shard.
        spec: of its vectors.
        name: what an error calls it.
        pooled: as for `read_spec`.

    Raises:
        InputError: names the first that differs.
    """
    expected = list(SCALARS) if pooled else list(spec.schema())
    for place, field in enumerate(expected):
        held = schema.field(place) if place < len(schema) else None
        if held is None or not held.equals(field):
            raise InputError(f"{name} has {held} where a shard has {field}: see spp verify")
    if len(schema) > len(expected):
        raise InputError(f"{name} has a column more, {schema.field(len(expected))}: see spp verify")


def vectors(table: pa.Table) -> Float[np.ndarray, "windows dim"]:
    """Return the `vector` column as an array; without a copy where it lies in one chunk."""
    spec = read_spec(table.schema)
    parts = [spec.to_numpy(chunk) for chunk in table.column("vector").chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.zeros((0, spec.length), spec.dtype), *parts])


def all_finite(numbers: Float[np.ndarray, "*shape"]) -> bool:
    """Return whether all numbers are finite; of halves as quickly as they are read.

    >>> bool(all_finite(np.array([1, 65504, -np.inf], np.float16)))
    False
    """
    if numbers.dtype != np.float16:
        return bool(np.isfinite(numbers).all())
    # NumPy's own test takes halves one by one. All bits of the exponent set: infinite, or none.
    exponents = np.bitwise_and(numbers.view(np.uint16), EXPONENT)
    return bool(exponents.max(initial=0) < EXPONENT)


EXPONENT = np.uint16(0x7C00)


def box_array(table: pa.Table) -> Float[np.ndarray, "windows 4"]:
    """Return the box columns of a table as one float64 array."""
    columns = [table[name].to_numpy() for name in BOX_COLUMNS]
    return np.stack(columns, axis=1).astype(np.float64)


def image_slices(table: pa.Table) -> Iterator[tuple[str, slice]]:
    """Yield each image of a table sorted by `image_id`, and the rows it has."""
    ids = table["image_id"].combine_chunks().dictionary_encode()
    changes = np.flatnonzero(np.diff(ids.indices.to_numpy())) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(ids)]):
        if start < stop:
            yield ids[start].as_py(), slice(start, stop)
