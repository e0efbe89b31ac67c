"""What a worker's memory will take against what it may use, before anything is extracted."""

import pyarrow as pa
import torch

from actors.extractor import SHARDS_IN_HAND
from pipeline import config, machine
from pipeline.errors import RecipeError
from pipeline.extraction.memory import MemoryPlan, find_largest, project_memory
from pipeline.networks import Network
from pipeline.networks.catalogue import PRECISIONS

# The driver, Ray's own processes and its object store, while the digits recipe runs (measured).
BESIDE_BYTES = 1_000_000_000

# By what takes the most beside the libraries: what of the recipe makes it smaller.
_WAYS_OUT = {
    "network": "take a smaller network or set network.precision",
    "decoding": "lower extractor.decode_threads or shrink the images",
    "windows": "lower features.shard_images",
    "row groups": "lower features.row_group_bytes",
    "vectors": "lower windows.max_windows or features.levels",
    "fc batch": "lower features.fc_rows",
}
_FIXED = {"libraries", "held back"}
_SCALES = "lower features.scales or set features.max_side_px"


def check_memory(
    recipe: config.Recipe,
    network: Network,
    images: pa.Table,
) -> MemoryPlan:
    """Return what one extractor takes at most.

    Args:
        recipe: its `[features]` and `[extractor]`.
        network: `outline`'s is enough.
        images: with their `image_id`, `width`, `height` and `windows`.

    Raises:
        RecipeError: that is more than a worker may use: naming the image, both numbers, and the
            way out.
    """
    plan = project(recipe, network, images)
    refuse(plan, recipe.extractor)
    return plan


def project(recipe: config.Recipe, network: Network, images: pa.Table) -> MemoryPlan:
    """Return what one extractor takes at most, refusing nothing."""
    usual = 4 if torch.cuda.is_available() else 1
    features = recipe.features.emitted
    return project_memory(
        network,
        features,
        find_largest(images, features),
        number_bytes=PRECISIONS[recipe.network.precision].itemsize,
        decode_threads=recipe.extractor.decode_threads or usual,
        shards_in_hand=SHARDS_IN_HAND,
    )


def refuse(plan: MemoryPlan, settings: config.Extractor) -> None:
    """Refuse a plan that takes more than a worker may use.

    Raises:
        RecipeError: see `check_memory`.
    """
    allowed = allowed_bytes(settings)
    if plan.bytes <= allowed:
        return
    whose, way = "extractor.memory_bytes", "raise extractor.memory_bytes"
    if settings.memory_bytes is None:
        whose = "a worker's share of this machine"
        way = "set extractor.memory_bytes to what a worker may use on the machines it will run on"
        if workers_here(settings) > 1:
            way = f"set a lower extractor.max_actors, or {way}"
    part = max(plan.parts.keys() - _FIXED, key=plan.parts.__getitem__, default="libraries")
    if part != "libraries" and plan.bytes - plan.parts[part] <= allowed:  # else it does not help
        way = f"{_WAYS_OUT.get(part, _SCALES)}, or {way}"
    raise RecipeError(
        f"projected {gigabytes(plan.bytes)} of memory{_named(plan, part)} exceeds "
        f"{gigabytes(allowed)}, {whose}: {way} ({gigabytes(plan.parts[part])} are for {part}, "
        f"{gigabytes(plan.parts['libraries'])} for libraries)"
    )


def _named(plan: MemoryPlan, part: str) -> str:
    if plan.largest is None:
        return ""
    by_windows = part in ("windows", "row groups", "vectors")
    return f" for image {plan.largest.windows_image_id if by_windows else plan.largest.image_id}"


def allowed_bytes(settings: config.Extractor) -> int:
    """Return what a worker may use: what the recipe says, or else its share of this machine.

    That is right where workers run on machines like this one.
    """
    if settings.memory_bytes is not None:
        return settings.memory_bytes
    return max(0, machine.memory_bytes() - BESIDE_BYTES) // workers_here(settings)


def workers_here(settings: config.Extractor) -> int:
    """Return how many extractors a run on this machine alone would have."""
    room = torch.cuda.device_count() or machine.cpus() // settings.cpus
    return max(1, min(room, settings.max_actors or room))


def gigabytes(count: int) -> str:
    """Return bytes as people read them.

    >>> gigabytes(6_140_000_000), gigabytes(4_200_000), gigabytes(1_234_500_000_000)
    ('6.14 GB', '0.004 GB', '1,234 GB')
    """
    size = count / 1e9
    return f"{size:,.0f} GB" if size >= 100 else f"{size:.2f} GB" if size >= 1 else f"{size:.3f} GB"


def fit_bytes(recipe: config.Recipe) -> int:
    """Return what one task that fits classifiers or box regressors may take."""
    regression = recipe.regression
    return max(recipe.svm.memory_bytes, regression.memory_bytes if regression.enabled else 0)
