"""What the image sets are, and what their stores will take in either kind."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import dag
from jobs.windows import read_counts
from pipeline import index
from pipeline.config import Recipe
from pipeline.extraction import map_bytes, vector_spec
from pipeline.networks import Network
from pipeline.store import plan_shards
from pipeline.store.plan import ProjectedBytes, ShardPlans, projected_bytes

SPLITS = ("train", "test")
# At one scale a pass over maps takes about as long as over vectors in the page cache; at several,
# more maps are unpacked and rows put back in order (benchmarks/maps.py).
WORTH_POOLING_AGAIN = 2  # times smaller; then the disk, or the cache it fits in, pays for it


@dataclass(frozen=True)
class ImageSet:
    """The images that one store will hold."""

    split: str
    rows: list[tuple[str, int, int, int]]
    """`(image_id, width, height, windows)`, ground truth among the windows."""
    objects: int
    counted: bool
    """Whether the windows are made and counted; otherwise `windows.max_windows` an image."""

    @property
    def windows(self) -> int:
        """Windows of all images, ground truth included."""
        return sum(row[3] for row in self.rows)


@dataclass(frozen=True)
class StorePlan:
    """What one image set will take."""

    split: str
    images: int
    windows: int
    counted: bool
    shards: int
    bytes: ProjectedBytes


def read_sets(recipe: Recipe, planned: Mapping[str, dag.Step]) -> list[ImageSet]:
    """Return the image sets of a recipe. The job `dataset` must be done."""
    folder, sets = planned["dataset"].folder, []
    for split in SPLITS:
        images, objects = (
            index.of_split(
                pq.read_table(folder / f"{name}.parquet"), getattr(recipe.dataset, split)
            )
            for name in ("images", "objects")
        )
        windows = planned[f"windows_{split}"]
        made = windows.record is not None
        ids, *sizes = (images[name].to_pylist() for name in ("image_id", "width", "height"))
        if made:
            each = read_counts(windows.folder, images["image_id"]).to_pylist()
        else:
            counts = Counter(dict.fromkeys(ids, recipe.windows.max_windows))
            counts.update(objects["image_id"].to_pylist())  # they go in as windows too
            each = [counts[image_id] for image_id in ids]
        sets.append(ImageSet(split, list(zip(ids, *sizes, each, strict=True)), len(objects), made))
    return sets


def plan_store(recipe: Recipe, network: Network, images: ImageSet) -> StorePlan:
    """Return what an image set will take; of windows that are not counted, the most."""
    settings, vector = recipe.features, vector_spec(network, recipe.features)
    taken = projected_bytes(
        [row[1:] for row in images.rows],
        settings.scales,
        network.map_size,
        network.channels,
        vector.length,
        vector.row_bytes // vector.length,
        settings.max_side_px,
    )
    shards = len(_shards(recipe, network, images))
    return StorePlan(images.split, len(images.rows), images.windows, images.counted, shards, taken)


def _shards(recipe: Recipe, network: Network, images: ImageSet) -> ShardPlans:
    """The shards as the job `extract` will plan them, but for their names."""
    settings, maps = recipe.features, recipe.features.store == "maps"
    columns = {
        "image_id": pa.array([row[0] for row in images.rows], pa.string()),
        "windows": pa.array([row[3] for row in images.rows], pa.int64()),
        "bytes": pa.array([0] * len(images.rows), pa.int64()),
    }
    if maps:
        taken = cache(partial(map_bytes, network, settings))  # a dataset has few sizes
        sizes = [taken(width, height) for _, width, height, _ in images.rows]
        columns["map_bytes"] = pa.array(sizes, pa.int64())
    row_bytes = 0 if maps else vector_spec(network, settings).row_bytes
    limits = (settings.shard_bytes, "", settings.shard_images)
    return plan_shards(pa.table(columns), row_bytes, *limits)


def recommend(recipe: Recipe, plans: list[StorePlan]) -> str:
    """Return which kind of store to choose, and why."""
    held = f'(the recipe has "{recipe.features.store}")'
    if recipe.features.layer != "pool5":
        why = f"{recipe.features.layer} comes after pooling, and needs vectors"
        return f'features.store = "windows" {held}: {why}'
    vectors = sum(plan.bytes.windows for plan in plans)
    maps = sum(plan.bytes.maps for plan in plans)
    if maps * WORTH_POOLING_AGAIN > vectors:
        why = f"maps would hardly be smaller ({vectors / max(maps, 1):.1f} times)"
        return f'features.store = "windows" {held}: {why}'
    single = len(recipe.features.scales) == 1
    costs = "as long as" if single else "at several scales up to four times as long as"
    return (
        f'features.store = "maps" {held}: at least {vectors / max(maps, 1):.0f} times smaller, '
        f"before packing. Reading vectors from them takes {costs} reading stored ones that lie in "
        "memory. Keep windows where SQL, or other programs, must see vectors"
    )


def rows_of(plan: StorePlan) -> dict[str, Any]:
    """Return a plan for programs."""
    return {
        "split": plan.split,
        "images": plan.images,
        "windows": plan.windows,
        "windows_are": "counted" if plan.counted else "at most",
        "shards": plan.shards,
        "bytes_windows": plan.bytes.windows,
        "bytes_maps": plan.bytes.maps,
    }
