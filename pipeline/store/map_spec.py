"""What the feature maps of a store are: how windows are pooled from them, and their columns.

One row per image and scale, in the file `maps/<shard>.parquet`:

| column | type | |
|---|---|---|
| image_id | string | |
| scale_px | int16 | shorter side of the resized image |
| factor_x factor_y | float64 | pixels of the resized image per pixel of the original |
| rows cols | int32 | cells of the map |
| map | binary | `[rows cols channels]` numbers, the channel fastest |
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store.schema import DTYPES, SCALARS, VectorSpec

METADATA_KEY = b"sppnet.maps"
MOST = 1 << 20  # channels, bins a side, pixels
COLUMNS = tuple(
    pa.field(name, kind, nullable=False)
    for name, kind in (
        ("image_id", pa.string()),
        ("scale_px", pa.int16()),
        ("factor_x", pa.float64()),
        ("factor_y", pa.float64()),
        ("rows", pa.int32()),
        ("cols", pa.int32()),
        ("map", pa.binary()),
    )
)


@dataclass(frozen=True)
class MapSpec:
    """What the feature maps are, and how windows are pooled from them.

    It travels in the metadata of both files of a shard. `stride`, `centre` and `shrink` are the
    network's geometry (SPEC §3), so that nothing else is needed to read the store.
    """

    stride: int | float
    centre: int | float
    shrink: int | float
    channels: int
    levels: tuple[int, ...]
    dtype: Literal["float16", "float32"] = "float16"

    @property
    def vector_length(self) -> int:
        """Length of the vectors that are pooled."""
        return self.channels * sum(level * level for level in self.levels)

    def schemas(self, vector: VectorSpec) -> tuple[pa.Schema, pa.Schema]:
        """Return the schemas of a shard's rows and of its maps.

        Raises:
            InputError: the maps give other vectors.
        """
        if (vector.length, vector.dtype) != (self.vector_length, self.dtype):
            raise InputError(
                f"maps of {self.channels} channels pooled over {list(self.levels)} give "
                f"{self.vector_length} numbers of {self.dtype}, not {vector.length} of "
                f"{vector.dtype}: only layer pool5 can be kept as maps"
            )
        metadata = {METADATA_KEY: json.dumps(asdict(self)), **(vector.schema().metadata or {})}
        return pa.schema(SCALARS, metadata=metadata), pa.schema(COLUMNS, metadata=metadata)


def read_map_spec(schema: pa.Schema) -> MapSpec | None:
    """Return what the maps beside these rows are; None where rows have their vectors."""
    if METADATA_KEY not in (schema.metadata or {}):
        return None
    try:
        held = json.loads(schema.metadata[METADATA_KEY])
        spec = MapSpec(**{**held, "levels": tuple(held["levels"])})
        counts = (spec.channels, *spec.levels)
        geometry = (spec.stride, spec.centre, spec.shrink)
        if not (
            spec.dtype in DTYPES
            and all(type(each) is int and 0 < each <= MOST for each in counts)
            and all(type(each) in (int, float) and abs(each) < MOST for each in geometry)
            and spec.stride > 0
            and len(spec.levels)
        ):
            raise ValueError(f"{spec} describes no maps")
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError("its metadata of maps is damaged: see spp verify") from None
    return spec
