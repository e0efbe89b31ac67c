"""Job `extract`: run the network over one image set and write its shards."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import pretrain
from jobs.context import Context, raise_failures
from pipeline import index
from pipeline.config import Recipe, digest
from pipeline.errors import RecipeError, SppError
from pipeline.extraction import ExtractionSpec, NetworkSpec, vector_spec
from pipeline.learning.pretrain_digits import network_options
from pipeline.networks import ARCHITECTURES
from pipeline.networks import digest as network_digest
from pipeline.store import finish, plan_shards
from pipeline.store.files import file_sha256, written_aside
from pipeline.store.manifest import claim

STORE = "store"


def run(split: str, context: Context) -> dict[str, Any]:
    """Write a store of features; shards that are committed already stay as they are."""
    recipe, root = context.recipe, context.folder / STORE
    name = getattr(recipe.dataset, split)
    windows = context.inputs[f"windows_{split}"]
    network = network_spec(recipe, context.inputs.get("pretrain"))
    loaded = network.load()
    vector = vector_spec(loaded, recipe.features)
    made_from = {
        "network": network_digest(loaded),
        "features": recipe.features.model_dump(mode="json"),
        "windows": windows.name,
        "dataset": context.inputs["dataset"].name,
        "split": name,
    }
    claim(root, made_from)
    images = _write_labels(root, context.inputs["dataset"], name)
    spec = ExtractionSpec(
        root,
        network,
        recipe.features,
        root / "images.parquet",
        windows / "windows",
        name,
        digest(made_from),
    )
    counts = pq.read_table(windows / "counts.parquet").to_pydict()
    rows = dict(zip(counts["image_id"], counts["windows"], strict=True))
    plans = plan_shards(
        [(image_id, rows.get(image_id, 0), _size(file)) for image_id, file in images.items()],
        vector.row_bytes,
        recipe.features.shard_bytes,
        spec.made_from,
    )
    seconds: dict[str, float] = {}
    failed: dict[str, Exception] = {}
    with context.progress.bar(f"{context.job}: shards", len(plans)) as bar:
        for outcome in context.runner.extract(spec, plans, recipe.extractor):
            bar.advance()
            if outcome.error is not None:
                failed[outcome.key] = outcome.error
                continue
            for stage, spent in outcome.result.seconds.items():
                seconds[stage] = round(seconds.get(stage, 0.0) + spent, 2)
    raise_failures(failed, "shards")
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
        "worker_seconds": seconds,
    }


def network_spec(recipe: Recipe, pretrained: Path | None) -> NetworkSpec:
    """Return how to load the recipe's network."""
    settings = recipe.network
    options: dict[str, Any] = network_options(settings)
    weights = settings.weights if isinstance(settings.weights, Path) else None
    if settings.weights == "pretrain" and pretrained is not None:
        weights = pretrained / pretrain.WEIGHTS
    elif weights is None and settings.name == "zf5":
        options["levels"] = recipe.features.levels  # fc6 is made to read this pyramid
    return NetworkSpec(settings.name, weights, recipe.seed, settings.preprocessing, options)


def reads(recipe: Recipe) -> Any:
    """Return the features, the network, and the content of its weights file.

    Raises:
        RecipeError: no such network or weights: said before any job runs.
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
    held = file_sha256(weights) if isinstance(weights, Path) else weights
    return [recipe.features.model_dump(mode="json"), network, held, recipe.seed]


def _write_labels(root: Path, dataset: Path, split: str) -> dict[str, Path]:
    """Put the image set's two tables beside its shards; return its files."""
    for name in ("images", "objects"):
        table: pa.Table = index.of_split(pq.read_table(dataset / f"{name}.parquet"), split)
        with written_aside(root / f"{name}.parquet") as aside:
            pq.write_table(table, aside)
    return index.files(pq.read_table(root / "images.parquet"))


def _size(file: Path) -> int:
    """Bytes of an image file; a missing one is quarantined when it is its turn."""
    return file.stat().st_size if file.is_file() else -1


if __name__ == "__main__":
    from jobs.cli import main

    main("extract")
