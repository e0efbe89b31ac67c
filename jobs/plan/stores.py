"""What the image sets are, and what their stores will take in either kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import earlier, extract
from jobs.job import Step
from jobs.windows import read_counts
from pipeline import index
from pipeline.config import Recipe
from pipeline.config.dataset import Role
from pipeline.extraction import vector_spec
from pipeline.networks import Network
from pipeline.store.plan import ProjectedBytes, projected_bytes

# At one scale a pass over maps takes about as long as over vectors in the page cache; at several,
# more maps are unpacked and rows put back in order (benchmarks/maps.py).
WORTH_POOLING_AGAIN = 2  # times smaller; then the disk, or the cache it fits in, pays for it


@dataclass(frozen=True)
class ImageSet:
    """The images that one store will hold."""

    role: Role
    images: pa.Table
    """Of `pipeline.index.IMAGES`, and `windows`: of each image, ground truth among them."""
    objects: int
    counted: bool
    """Whether the windows are made and counted; otherwise `windows.max_windows` an image."""

    @property
    def windows(self) -> int:
        """Windows of all images, ground truth included."""
        return int(self.images["windows"].to_numpy().sum())


@dataclass(frozen=True)
class StorePlan:
    """What one image set will take."""

    role: Role
    layer: str
    images: int
    windows: int
    counted: bool
    shards: int
    bytes: ProjectedBytes
    taken_over: int = 0
    """Images whose features an earlier store has."""


def read_sets(recipe: Recipe, planned: Mapping[str, Step]) -> list[ImageSet]:
    """Return the image sets of a recipe. Their datasets must be done."""
    sets = list[ImageSet]()
    for role in recipe.roles:
        images, objects = index.read_tables(planned[f"dataset_{role}"].folder)
        # Those whose size cannot be read take nothing: they will be quarantined.
        images = images.filter(pc.field("width") > 0)
        windows = planned[f"windows_{role}"]
        whole = recipe.task == "classification"
        counted = whole or windows.record is not None
        if whole:
            counts = pa.chunked_array([np.ones(len(images), np.int64)])
        elif counted:
            counts = read_counts(windows.folder, images["image_id"])
        else:
            counts = _most(images, objects, recipe.windows.max_windows)
        held = images.append_column("windows", counts)
        sets.append(ImageSet(role, held, len(objects), counted))
    return sets


def _most(images: pa.Table, objects: pa.Table, max_windows: int) -> pa.ChunkedArray:
    """Return the most windows of each image: objects go in as windows too."""
    own = objects.group_by("image_id").aggregate([("image_id", "count")])
    place = pc.index_in  # pyright: ignore[reportAttributeAccessIssue]
    places = place(images["image_id"], own["image_id"].combine_chunks())
    shown = pc.fill_null(own["image_id_count"].take(places), 0)
    return pc.add(shown, max_windows)  # pyright: ignore[reportAttributeAccessIssue]


def plan_store(
    recipe: Recipe, network: Network, images: ImageSet, taken_over: int = 0
) -> StorePlan:
    """Return what an image set will take; of windows that are not counted, the most.

    Args:
        recipe: the store's own.
        network: `outline`'s is enough.
        images: that it will hold.
        taken_over: how many of them, see `count_taken_over`.
    """
    settings = recipe.features
    vector = vector_spec(network, settings.emitted)
    columns = (images.images[name].to_pylist() for name in ("width", "height", "windows"))
    taken = projected_bytes(
        zip(*columns, strict=True),
        settings.scales,
        network.map_size,
        network.channels,
        vector.length,
        vector.row_bytes // vector.length,
        settings.max_side_px,
    )
    shards = len(extract.shard_plans(settings.emitted, network, images.images, ""))
    count, windows = len(images.images), images.windows
    held = (settings.layer, count, windows, images.counted, shards, taken)
    return StorePlan(images.role, *held, taken_over)


def count_taken_over(recipe: Recipe, images: ImageSet, step: Step) -> int:
    """Return of how many images earlier stores have the features, if their windows have stayed.

    Args:
        recipe: the store's own.
        images: that it will hold.
        step: that will make it.
    """
    trained = recipe.network.weights == "pretrain" or recipe.features.fine_tuned
    if trained or not recipe.features.made_alone:
        return 0  # of a network that is trained anew, only the job knows whether it is the same
    met = earlier.met(step.folder, step.settings, lambda: images.images, extract.listed)
    return sum(len(each.rows) for each in met)


def recommend(recipe: Recipe, plans: list[StorePlan]) -> str:
    """Return which kind of store to choose, and why."""
    held = f'(the recipe has "{recipe.features.store}")'
    if recipe.features.layer != "pool5":
        why = f"{recipe.features.layer} comes after pooling, and needs vectors"
        return f'features.store = "windows" {held}: {why}'
    if recipe.task == "classification":
        why = "an image has one vector, which takes less than its maps"
        return f'features.store = "windows" {held}: {why}'
    if recipe.features.mode == "warp" or recipe.features.scale_rule == "max":
        chosen = "scale_rule" if recipe.features.mode == "pyramid" else "mode"
        why = f'maps are not pooled by {chosen} = "{getattr(recipe.features, chosen)}"'
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
        "memory. Keep windows where other programs must read the shards"
    )


def rows_of(plan: StorePlan) -> dict[str, Any]:
    """Return a plan for programs."""
    return {
        "split": plan.role,
        "layer": plan.layer,
        "images": plan.images,
        "windows": plan.windows,
        "windows_are": "counted" if plan.counted else "at most",
        "shards": plan.shards,
        "taken_over": plan.taken_over,
        "bytes_windows": plan.bytes.windows,
        "bytes_maps": plan.bytes.maps,
    }
