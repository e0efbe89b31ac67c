"""Which images go into which shard: integers in, plan out, no file touched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.config import digest


@dataclass(frozen=True)
class ShardPlan:
    """One unit of work, failure and resume: whole images, in the order of their ids."""

    shard_id: str
    image_ids: tuple[str, ...]
    rows: int
    bytes: int
    """Projected size of the vectors."""


def plan_shards(
    images: Iterable[tuple[str, int, int]],
    row_bytes: int,
    shard_bytes: int,
    made_from: str,
) -> Sequence[ShardPlan]:
    """Group images into shards of about `shard_bytes`.

    Args:
        images: `(image_id, windows, file bytes)` of each. A file that changed size changes the
            shard's id.
        row_bytes: of one window's vector.
        shard_bytes: no shard is larger, unless a single image is.
        made_from: digest of everything else that decides the content: network, recipe, schema.

    >>> [p.image_ids for p in plan_shards([("b", 2, 9), ("a", 3, 9), ("c", 4, 9)], 10, 60, "")]
    [('a', 'b'), ('c',)]
    """
    plans: list[ShardPlan] = []
    group: list[tuple[str, int, int]] = []
    rows = 0
    for image in sorted(images):
        if group and (rows + image[1]) * row_bytes > shard_bytes:
            plans.append(_plan(len(plans), group, row_bytes, made_from))
            group, rows = [], 0
        group.append(image)
        rows += image[1]
    if group:
        plans.append(_plan(len(plans), group, row_bytes, made_from))
    return plans


def _plan(
    index: int, group: list[tuple[str, int, int]], row_bytes: int, made_from: str
) -> ShardPlan:
    rows = sum(windows for _, windows, _ in group)
    shard_id = f"{index:05d}-{digest(made_from, group)[:16]}"
    return ShardPlan(shard_id, tuple(image_id for image_id, _, _ in group), rows, rows * row_bytes)
