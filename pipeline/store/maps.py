"""Feature maps in place of vectors: what a store of maps keeps, and the pooling when it is read.

Rounding to a stored number and taking a maximum can change places, because rounding keeps order:
what is pooled from a narrowed map has the bits of a narrowed pooled vector.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline import spp
from pipeline.errors import InputError
from pipeline.store.map_spec import COLUMNS, MOST, MapSpec
from pipeline.store.place import Place, damage_named, open_parquet
from pipeline.store.schema import VectorSpec, all_finite, box_array, image_slices

LARGEST_BYTES = 1 << 28  # of a map that may be packed to nothing, for it may be of zeros
MOST_PACKED = 100  # times that larger ones may be packed
LARGEST_HEADERS = 1 << 16  # of pages, which Parquet counts to what they hold


def maps_table(
    image_id: str,
    scale_px: int,
    factors: Sequence[float],
    feature_map: Float[Tensor, "channels map_rows map_cols"],
    spec: MapSpec,
) -> pa.Table:
    """Return the one row of an image at one scale, for `ShardWriter.write_maps`.

    Args:
        image_id: of the image.
        scale_px: shorter side of the resized image.
        factors: new pixels per old one, horizontally and vertically.
        feature_map: narrowed to `spec.dtype`; copied only where the channel is not fastest.
        spec: of the store.

    Raises:
        ValueError: the map has another dtype or other channels.
    """
    channels, rows, cols = feature_map.shape
    if (channels, feature_map.dtype) != (spec.channels, getattr(torch, spec.dtype)):
        raise ValueError(
            f"image {image_id} at scale {scale_px}: a map of {channels} channels of "
            f"{feature_map.dtype}; the store keeps {spec.channels} of {spec.dtype}"
        )
    flat = feature_map.permute(1, 2, 0).contiguous().cpu().numpy()
    # pa.array() would copy the map.
    ends = pa.py_buffer(np.array([0, flat.nbytes], np.int32))
    column = pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(flat)])
    scalars = [[image_id], [scale_px], *([float(factor)] for factor in factors), [rows], [cols]]
    arrays = [pa.array(one, field.type) for one, field in zip(scalars, COLUMNS[:-1], strict=True)]
    return pa.table([*arrays, column], schema=pa.schema(COLUMNS))


class StoredMap(NamedTuple):
    """What `maps_table` was given of a map."""

    scale_px: int
    factors: tuple[float, float]
    feature_map: Float[Tensor, "channels map_rows map_cols"]


@dataclass(frozen=True)
class _Place:
    """Where a map lies, and what it belongs to."""

    group: int
    factors: tuple[float, float]
    map_size: tuple[int, int]
    """Columns and rows."""


class ShardMaps:
    """The maps of one shard, each unpacked when windows are pooled from it and then forgotten."""

    def __init__(self, root: Place, name: str, spec: MapSpec, vector: VectorSpec) -> None:
        self._root, self._name, self._spec, self._vector = root, name, spec, vector

    def __enter__(self) -> "ShardMaps":
        self._stack = ExitStack()
        self._file = self._stack.enter_context(open_parquet(self._root, self._name))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def _places(self) -> dict[tuple[str, int], _Place]:
        """By image and scale; a map has a row group of its own."""
        if not self._file.schema_arrow.equals(pa.schema(COLUMNS)):
            columns = ", ".join(map(str, COLUMNS))
            raise InputError(f"{self._name} has other columns than {columns}: see spp verify")
        with damage_named(self._root, self._name):
            table = self._file.read([field.name for field in COLUMNS[:-1]], use_threads=False)
        if self._file.num_row_groups != len(table):
            raise InputError(
                f"{self._name} has {len(table)} maps in {self._file.num_row_groups} row "
                "groups, not one in each: it was not written by this store"
            )
        columns = (table[field.name].to_pylist() for field in COLUMNS[:-1])
        return {
            (image_id, scale_px): _Place(group, (factor_x, factor_y), (cols, rows))
            for group, (image_id, scale_px, factor_x, factor_y, rows, cols) in enumerate(
                zip(*columns, strict=True)
            )
        }

    def check(self) -> None:
        """Read every map.

        Raises:
            InputError: one is missing or damaged, or has numbers that are not finite.
        """
        for (image_id, scale_px), place in self._places.items():
            if not all_finite(self._load(place).numpy()):
                raise InputError(
                    f"{self._name} has a map of image {image_id} at scale {scale_px} with numbers "
                    "that are not finite"
                )

    def stored(self, image_id: str) -> Iterator[StoredMap]:
        """Yield the maps of an image, in their order.

        Raises:
            InputError: one is damaged.
        """
        for (held, scale_px), place in self._places.items():
            if held == image_id:
                yield StoredMap(scale_px, place.factors, self._load(place))

    def scales_of(self, image_id: str) -> set[int]:
        """Return the scales at which there is a map of an image: those that a window asked for."""
        return {scale_px for held, scale_px in self._places if held == image_id}

    def feature_map(
        self, image_id: str, scale_px: int
    ) -> Float[Tensor, "channels map_rows map_cols"]:
        """Return the map of an image at one scale, as it was stored.

        Raises:
            InputError: it is missing or damaged.
        """
        return self._load(self._place(image_id, scale_px))

    def pool(self, rows: pa.Table) -> pa.Array:
        """Return the `vector` column of rows that have `image_id`, the box and `scale_px`.

        Memory: the vectors, one map, and once more the vectors of an image with several scales.

        Raises:
            InputError: a row's map is missing or damaged.
        """
        pooled = self._empty(len(rows))
        boxes, scales = box_array(rows), rows["scale_px"].to_numpy()
        for image_id, part in image_slices(rows):
            self._pool_image(image_id, boxes[part], scales[part], pooled[part])
        return self._vector.to_arrow(pooled.numpy())

    def _pool_image(
        self,
        image_id: str,
        boxes: Float[np.ndarray, "windows 4"],
        scales: Int[np.ndarray, " windows"],
        out: Float[Tensor, "windows dim"],
    ) -> None:
        """Pool an image's windows: of one scale straight into their rows, of several in two steps.

        Only in two steps are windows on the same cells pooled once: the kernel is as quick as a
        copy, and copying vectors would cost what pooling them again does.
        """
        used = np.unique(scales)
        if len(used) == 1:
            place = self._place(image_id, int(used[0]))
            cells = spp.window_cells(boxes, place.factors, self._spec, place.map_size)
            spp.pool(self._load(place), cells, self._spec.levels, out=out)
            return
        found, rows, start = self._empty(len(boxes)), np.empty(len(boxes), np.int64), 0
        for scale_px in used:
            chosen = np.flatnonzero(scales == scale_px)
            place = self._place(image_id, int(scale_px))
            cells = spp.window_cells(boxes[chosen], place.factors, self._spec, place.map_size)
            different, which = spp.distinct(cells)
            stop = start + len(different)
            spp.pool(self._load(place), different, self._spec.levels, out=found[start:stop])
            rows[chosen] = start + which
            start = stop
        torch.index_select(found, 0, torch.from_numpy(rows), out=out)

    def _place(self, image_id: str, scale_px: int) -> _Place:
        place = self._places.get((image_id, scale_px))
        if place is None:
            raise InputError(
                f"{self._name} has no map of image {image_id} at scale {scale_px}: see spp verify"
            )
        return place

    def _empty(self, count: int) -> Float[Tensor, "windows dim"]:
        """Room for vectors, from Arrow's pool: fresh pages would cost as much as filling them."""
        buffer = pa.allocate_buffer(count * self._vector.row_bytes)
        flat = np.frombuffer(buffer, self._spec.dtype)
        return torch.from_numpy(flat.reshape(count, self._vector.length))

    def _load(self, place: _Place) -> Float[Tensor, "channels map_rows map_cols"]:
        shape = (*reversed(place.map_size), self._spec.channels)
        expected = prod(shape) * np.dtype(self._spec.dtype).itemsize
        # Before anything is unpacked: a few bytes may say that they are gigabytes.
        stored = self._file.metadata.row_group(place.group).column(len(COLUMNS) - 1)
        if stored.total_uncompressed_size > expected + LARGEST_HEADERS:
            raise InputError(
                f"{self._name} unpacks a map to {stored.total_uncompressed_size:,} bytes, where "
                f"{'×'.join(map(str, shape))} numbers were written: see spp verify"
            )
        if expected > max(LARGEST_BYTES, MOST_PACKED * stored.total_compressed_size):
            raise InputError(
                f"{self._name} says that {stored.total_compressed_size:,} bytes are a map of "
                f"{expected:,}: it is made to fill the memory"
            )
        with damage_named(self._root, self._name):
            column = self._file.read_row_group(place.group, ["map"], use_threads=False)["map"]
        data = column.chunk(0)[0].as_buffer()
        if min(shape) < 1 or data is None or data.size != expected:
            raise InputError(
                f"{self._name} holds a map of {0 if data is None else data.size:,} bytes where "
                f"{'×'.join(map(str, shape))} numbers were written: see spp verify"
            )
        if not all(0 < each < MOST for each in place.factors):
            raise InputError(f"{self._name} says that an image was resized by {place.factors}")
        flat = np.frombuffer(data, self._spec.dtype)
        # Copied because torch refuses memory that it may not write to: 1% of the pooling.
        return torch.from_numpy(flat.reshape(shape).copy()).permute(2, 0, 1)
