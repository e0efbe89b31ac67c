"""Which images go into which shard, and what they will take: integers in, plan out, no file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pipeline import images as pixels
from pipeline.config import digest
from pipeline.errors import InputError

# Boxes, ids and words of a window, packed: 11 bytes in the benchmarks' shards, whose ids are short.
SCALARS_BYTES = 16
_NO_MAPS: Mapping[str, int] = {}


@dataclass(frozen=True)
class ShardPlan:
    """One unit of work, failure and resume: whole images, in the order of their ids."""

    shard_id: str
    image_ids: tuple[str, ...]
    rows: int
    bytes: int
    """Projected size of the vectors, or of the feature maps."""


def plan_shards(
    images: Iterable[tuple[str, int, int]],
    row_bytes: int,
    shard_bytes: int,
    made_from: str,
    map_bytes: Mapping[str, int] = _NO_MAPS,
    shard_images: int | None = None,
) -> Sequence[ShardPlan]:
    """Group images into shards of about `shard_bytes`.

    Args:
        images: `(image_id, windows, file bytes)` of each. A file that changed size changes the
            shard's id.
        row_bytes: of one window's vector; 0 in a store of maps.
        shard_bytes: no shard is larger, unless a single image is.
        made_from: digest of everything else that decides the content: network, recipe, schema.
        map_bytes: of each image's feature maps, in a store of maps.
        shard_images: most images of a shard; None: any number.

    >>> [p.image_ids for p in plan_shards([("b", 2, 9), ("a", 3, 9), ("c", 4, 9)], 10, 60, "")]
    [('a', 'b'), ('c',)]
    """
    plans: list[ShardPlan] = []
    group: list[tuple[str, int, int]] = []
    size = 0
    for image in sorted(images):
        own = image[1] * row_bytes + map_bytes.get(image[0], 0)
        if group and (size + own > shard_bytes or len(group) == shard_images):
            plans.append(_plan(len(plans), group, size, made_from))
            group, size = [], 0
        group.append(image)
        size += own
    if group:
        plans.append(_plan(len(plans), group, size, made_from))
    return plans


def _plan(index: int, group: list[tuple[str, int, int]], size: int, made_from: str) -> ShardPlan:
    rows = sum(windows for _, windows, _ in group)
    shard_id = f"{index:05d}-{digest(made_from, group)[:16]}"
    return ShardPlan(shard_id, tuple(image_id for image_id, _, _ in group), rows, size)


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
