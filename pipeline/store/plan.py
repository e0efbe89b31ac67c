"""Which images go into which shard, and what they will take: integers in, plan out, no file."""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import overload

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from pipeline import images as pixels
from pipeline.config import digest
from pipeline.errors import InputError

# Boxes, ids and words of a window, packed: 11 bytes in the benchmarks' shards, whose ids are short.
SCALARS_BYTES = 16


@dataclass(frozen=True)
class ShardPlan:
    """One unit of work, failure and resume: whole images, in the order of their ids."""

    shard_id: str
    image_ids: tuple[str, ...]
    rows: int
    bytes: int
    """Projected size of the vectors, or of the feature maps."""


@dataclass(frozen=True, eq=False)
class ShardPlans(Sequence[ShardPlan]):
    """Shards of an image set. A plan is built when it is asked for.

    A hundred thousand of them take one id each, and a few numbers for each of their images.
    """

    ids: Sequence[str]
    """Of the shards, in order."""
    spans: Int[np.ndarray, "shards 2"]
    """First image of each shard, and the one after its last."""
    images: pa.Table
    """`image_id`, `windows`, `taken` bytes; sorted by id."""

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, chosen: int) -> ShardPlan: ...
    @overload
    def __getitem__(self, chosen: slice) -> "ShardPlans": ...
    def __getitem__(self, chosen: int | slice) -> "ShardPlan | ShardPlans":
        """Return one plan, or some of them."""
        if isinstance(chosen, slice):
            return ShardPlans(self.ids[chosen], self.spans[chosen], self.images)
        start, stop = self.spans[chosen]
        own = self.images.slice(start, stop - start).to_pydict()
        totals = (sum(own["windows"]), sum(own["taken"]))
        return ShardPlan(self.ids[chosen], tuple(own["image_id"]), *totals)

    @property
    def totals(self) -> dict[str, int]:
        """Rows and bytes of all images."""
        rows, taken = (int(self.images[name].to_numpy().sum()) for name in ("windows", "taken"))
        return {"rows": rows, "bytes": taken}

    def without(self, shard_ids: Container[str]) -> "ShardPlans":
        """Return the plans of all other shards, such as those that are not committed yet."""
        kept = [number for number, shard_id in enumerate(self.ids) if shard_id not in shard_ids]
        return ShardPlans([self.ids[number] for number in kept], self.spans[kept], self.images)


def plan_shards(
    images: pa.Table,
    row_bytes: int,
    shard_bytes: int,
    made_from: str,
    shard_images: int | None = None,
) -> ShardPlans:
    """Group images into shards of about `shard_bytes`.

    Args:
        images: a row for each image: `image_id`, `windows`, `bytes` of its file (one that changed
            its size changes the shard's id) and, in a store of maps, `map_bytes`.
        row_bytes: of one window's vector; 0 in a store of maps.
        shard_bytes: no shard is larger, unless a single image is.
        made_from: digest of everything else that decides the content: network, recipe, schema.
        shard_images: most images of a shard; None: any number.

    >>> rows = pa.table({"image_id": ["b", "a", "c"], "windows": [2, 3, 4], "bytes": [9, 9, 9]})
    >>> [plan.image_ids for plan in plan_shards(rows, 10, 60, "")]
    [('a', 'b'), ('c',)]
    """
    images = images.sort_by("image_id").combine_chunks()
    windows, file_bytes = (images[name].to_numpy() for name in ("windows", "bytes"))
    taken = windows * row_bytes
    if "map_bytes" in images.column_names:
        taken = taken + images["map_bytes"].to_numpy()
    spans = _spans(taken, shard_bytes, shard_images)
    ids = []
    for number, (start, stop) in enumerate(spans.tolist()):
        names = images["image_id"][start:stop].to_pylist()
        held = [names, windows[start:stop].tolist(), file_bytes[start:stop].tolist()]
        ids.append(f"{number:05d}-{digest(made_from, held)[:16]}")
    columns = {"image_id": images["image_id"], "windows": windows, "taken": taken}
    return ShardPlans(ids, spans, pa.table(columns))


def _spans(
    taken: Int[np.ndarray, " images"], most_bytes: int, most_images: int | None
) -> Int[np.ndarray, "shards 2"]:
    """Cut images into neighbours that together are within both bounds, or are a single one."""
    ends = np.cumsum(taken)
    edges, before = [0], 0
    while (start := edges[-1]) < len(ends):
        fitting = int(np.searchsorted(ends, before + most_bytes, side="right"))
        stop = min(fitting, start + most_images) if most_images else fitting
        edges.append(max(stop, start + 1))
        before = int(ends[edges[-1] - 1])
    return np.array([*pairwise(edges)], np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class ProjectedBytes:
    """What the same images and windows take in either kind of store."""

    windows: int
    maps: int
    """At most: every map unpacked. Those of trained networks are mostly zeros and pack to a
    fraction (1/6.6 for SqueezeNet on photographs), random ones hardly."""


def projected_bytes(
    images: Iterable[tuple[int, int, int]],
    scales: Sequence[int],
    map_size: Callable[[int, int], tuple[int, int]],
    channels: int,
    vector_length: int,
    number_bytes: int = 2,
    max_side_px: int | None = None,
) -> ProjectedBytes:
    """Return the bytes of a store of windows and of a store of maps.

    Args:
        images: `(width, height, windows)` of each, in pixels of the original.
        scales: shorter sides in pixels; a map each is counted, also where no window asks for it.
        map_size: `Network.map_size`: columns and rows of the map of an image of so many pixels.
        channels: of the maps.
        vector_length: numbers of one window's vector; for pool5 `channels * sum(n * n)` over the
            pyramid's levels.
        number_bytes: of one stored number.
        max_side_px: upper clamp of the longer side.

    >>> projected_bytes([(688, 688, 2000)], (688,), lambda *_: (42, 42), 256, 12_800)
    ProjectedBytes(windows=51232000, maps=935168)
    """

    @cache  # thousands of photographs have a dozen sizes
    def cells(width: int, height: int) -> int:
        return sum(_cells(map_size, width, height, one, max_side_px) for one in scales)

    rows = maps = 0
    for width, height, windows in images:
        rows += windows
        maps += cells(width, height) * channels * number_bytes
    scalars = rows * SCALARS_BYTES
    return ProjectedBytes(rows * vector_length * number_bytes + scalars, maps + scalars)


def _cells(
    map_size: Callable[[int, int], tuple[int, int]],
    width: int,
    height: int,
    scale_px: int,
    max_side_px: int | None,
) -> int:
    try:
        cols, rows = map_size(*pixels.resized_size(width, height, scale_px, max_side_px))
    except InputError:  # too small for a cell: the image will be quarantined
        return 0
    return cols * rows
