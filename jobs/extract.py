"""Job `extract`: run the network over one image set and write its shards."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import pretrain
from jobs.context import Context, raise_failures
from jobs.windows import read_counts
from pipeline import index, networks
from pipeline.config import Recipe, digest
from pipeline.errors import RecipeError, SppError
from pipeline.extraction import (
    ExtractionSpec,
    NetworkSpec,
    ShardStats,
    add_stats,
    map_bytes,
    vector_spec,
)
from pipeline.learning.pretrain_digits import network_options
from pipeline.networks import ARCHITECTURES, Network, preprocessing
from pipeline.networks import digest as network_digest
from pipeline.store import ShardPlan, finish, plan_shards
from pipeline.store.files import file_sha256
from pipeline.store.labels import write_labels
from pipeline.store.manifest import claim

STORE = "store"


def run(split: str, context: Context) -> dict[str, Any]:
    """Write a store of features; shards that are committed already stay as they are."""
    root = context.folder / STORE
    spec, network = _specify(split, context)
    _write_labels(root, context.inputs["dataset"], spec.split)
    images = pq.read_table(spec.images)
    plans = _plan(spec, network, images, context.inputs[f"windows_{split}"])
    stats = _extract(spec, plans, context)
    manifest = finish(root, [plan.shard_id for plan in plans])
    reasons = {k: v for r in manifest["shards"] for k, v in r["quarantined"].items()}
    if manifest["images_in"] != len(images):
        raise SppError(f"{manifest['images_in']} images came out of {len(images)}; see {root}")
    if not manifest["images_done"]:
        raise SppError(
            f"none of the {len(images)} images could be read; image {next(iter(reasons))}: "
            f"{next(iter(reasons.values()))}"
        )
    return {
        "images": manifest["images_done"],
        "quarantined": manifest["images_quarantined"],
        "rows": manifest["rows"],
        "shards": len(plans),
        "bytes": manifest["bytes"],
        "reasons": reasons,
        **add_stats(stats),
    }


def _specify(split: str, context: Context) -> tuple[ExtractionSpec, Network]:
    """Claim the store for what it will be made from; return that, and the network."""
    recipe, root = context.recipe, context.folder / STORE
    name, windows = getattr(recipe.dataset, split), context.inputs[f"windows_{split}"]
    spec = network_spec(recipe, context.inputs.get("pretrain"))
    spec = spec.prepared(context.folder / "network.safetensors")
    network = spec.load()
    made_from = {
        "network": network_digest(network),
        "features": recipe.features.model_dump(mode="json"),
        "windows": windows.name,
        "dataset": context.inputs["dataset"].name,
        "split": name,
    }
    claim(root, made_from)
    return ExtractionSpec(
        root,
        spec,
        recipe.features,
        root / "images.parquet",
        windows / "windows",
        name,
        digest(made_from),
        decode_threads=recipe.extractor.decode_threads,
    ), network


def _plan(
    spec: ExtractionSpec, network: Network, images: pa.Table, windows: Path
) -> Sequence[ShardPlan]:
    """Group the images into shards by what their vectors, or their maps, will take."""
    settings, vector = spec.features, vector_spec(network, spec.features)
    rows = read_counts(windows)
    stored = settings.store == "maps"
    taken = cache(partial(map_bytes, network, settings))  # a dataset has few sizes
    columns = (images[name].to_pylist() for name in ("image_id", "width", "height"))
    return plan_shards(
        [(name, rows[name], _size(file)) for name, file in index.files(images).items()],
        0 if stored else vector.row_bytes,
        settings.shard_bytes,
        spec.made_from,
        {name: taken(*size) for name, *size in zip(*columns, strict=True) if stored},
        settings.shard_images,
    )


def _extract(
    spec: ExtractionSpec, plans: Sequence[ShardPlan], context: Context
) -> list[ShardStats]:
    """Run the extractors.

    Raises:
        SppError: some shards failed; all others are committed.
    """
    stats: list[ShardStats] = []
    failed: dict[str, Exception] = {}
    with context.progress.bar(f"{context.job}: shards", len(plans)) as bar:
        for outcome in context.runner.extract(spec, plans, context.recipe.extractor):
            bar.advance()
            if outcome.error is None:
                stats.append(outcome.result)
            else:
                failed[outcome.key] = outcome.error
    raise_failures(failed, "shards")
    return stats


def network_spec(recipe: Recipe, pretrained: Path | None) -> NetworkSpec:
    """Return how to load the recipe's network."""
    settings = recipe.network
    options: dict[str, Any] = network_options(settings)
    weights = settings.weights if isinstance(settings.weights, Path) else None
    if settings.weights == "pretrain" and pretrained is not None:
        weights = pretrained / pretrain.WEIGHTS
    elif weights is None and settings.name == "zf5":
        options["levels"] = recipe.features.levels  # fc6 is made to read this pyramid
    return NetworkSpec(
        settings.name,
        weights,
        recipe.seed,
        settings.preprocessing,
        options,
        settings.precision,
        settings.fc6_rank,
        settings.fc7_rank,
    )


def outline(recipe: Recipe) -> Network:
    """Return the recipe's network without its weights: sizes do not depend on them."""
    spec = network_spec(recipe, None)
    ranks = {"fc6_rank": spec.fc6_rank, "fc7_rank": spec.fc7_rank}
    return networks.outline(spec.name, spec.weights, **ranks, **spec.options)


def reads(recipe: Recipe) -> Any:
    """Return the features, the network, and the content of its weights file.

    Raises:
        RecipeError: no such network or weights, or they do not have what the recipe asks for: said
            before any job runs.
    """
    network = recipe.network.model_dump(mode="json", exclude={"weights"})
    weights = recipe.network.weights
    if recipe.network.name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise RecipeError(f"no network is called {recipe.network.name!r}: choose among {known}")
    if isinstance(weights, Path) and not weights.is_file():
        raise RecipeError(
            f"network.weights: there is no file {weights}; relative paths start from --data, or "
            "from where you are"
        )
    vector_spec(outline(recipe), recipe.features)  # a layer, pyramid or rank that cannot be
    if recipe.network.preprocessing is not None:
        preprocessing.preset(recipe.network.preprocessing)
    held = file_sha256(weights) if isinstance(weights, Path) else weights
    return [recipe.features.model_dump(mode="json"), network, held, recipe.seed]


def _write_labels(root: Path, dataset: Path, split: str) -> None:
    """Put the image set's two tables beside its shards."""
    for name in ("images", "objects"):
        table: pa.Table = index.of_split(pq.read_table(dataset / f"{name}.parquet"), split)
        write_labels(root / f"{name}.parquet", table)


def _size(file: Path) -> int:
    """Bytes of an image file; a missing one is quarantined when it is its turn."""
    return file.stat().st_size if file.is_file() else -1


if __name__ == "__main__":
    from jobs.cli import main

    main("extract")
