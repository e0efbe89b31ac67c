"""Job `extract`: run the network over one image set and write its shards."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import earlier
from jobs.context import STORE, Context, raise_failures
from jobs.memory import check_memory
from jobs.network import network_content, outline, trained_spec, weights_content
from jobs.telling import Notes, ShardLog, write_plan
from jobs.windows import read_counts
from pipeline import index
from pipeline.config import Features, Recipe, digest
from pipeline.config.dataset import Role
from pipeline.errors import SppError
from pipeline.extraction import (
    Earlier,
    ExtractionSpec,
    map_bytes,
    vector_spec,
)
from pipeline.networks import Network, preprocessing
from pipeline.networks import digest as network_digest
from pipeline.store import (
    DamagedShardsError,
    Place,
    Store,
    Totals,
    claim,
    committed,
    finish,
    gc,
    plan_shards,
    remake,
    reopen,
)
from pipeline.store import open as open_store
from pipeline.store import sound as store_sound
from pipeline.store.labels import by_image, write_labels
from pipeline.store.manifest import MANIFEST, TABLES
from pipeline.store.place import place
from pipeline.store.plan import ShardPlans

NETWORK = "network.safetensors"  # with fc layers cut to their ranks, if there are any
VERSION = 2  # raised with the store's FORMAT, for old stores must be made again


def run(role: Role, context: Context) -> dict[str, Any]:
    """Write a store of features; shards that are committed already stay as they are."""
    spec, network = _specify(role, context)
    root = spec.root
    for line in reopen(root):
        context.note(line)
    images = _write_labels(spec, context, context.inputs[f"dataset_{role}"])
    spec = replace(spec, earlier=tuple(_earlier(spec, context)))
    windows = read_counts(context.inputs[f"windows_{role}"], images["image_id"])
    images = images.append_column("windows", windows)
    if context.recipe.extractor.memory_bytes is not None:
        check_memory(context.recipe, network, images)
    plans = shard_plans(spec.features, network, images, spec.made_from)
    write_plan(context.folder, root, plans)
    log = ShardLog(context.events)
    _extract(spec, plans, context, log)
    totals = _finish(spec, plans, context, log)
    if context.stores is None:  # a store of our own, in which nobody is at work now
        gc(root, remove=True, older_than_s=0)
    reasons, taken = Store(root).quarantined(), log.totals.taken
    if taken and spec.earlier:  # where a run goes on, they may be gone
        jobs = ", ".join(each.images.parent.name for each in spec.earlier)
        context.note(f"{taken:,} of {len(images):,} images have their rows from {jobs}")
    if not totals.images:
        raise SppError(
            f"none of the {len(images)} images could be read; image {next(iter(reasons))}: "
            f"{next(iter(reasons.values()))}"
        )
    return {
        "images": totals.images,
        **({"taken_over": taken} if taken else {}),
        "quarantined": totals.quarantined,
        "rows": totals.rows,
        "shards": totals.shards,
        "bytes": totals.bytes,
        "reasons": reasons,
        **log.totals.stages(),
        **({"store": context.store} if context.stores else {}),
    }


def _specify(role: Role, context: Context) -> tuple[ExtractionSpec, Network]:
    """Claim the store for what it will be made from; return that, and the network."""
    recipe, root = context.recipe, place(context.store)
    name, windows = getattr(recipe.dataset, role), context.inputs[f"windows_{role}"]
    spec = trained_spec(recipe, context.inputs)
    spec = spec.prepared(context.folder / NETWORK)
    network, features = spec.load(), recipe.features.emitted
    made_from = {
        "network": network_digest(network),
        "features": features.model_dump(mode="json"),
        "windows": windows.name,
        "dataset": context.inputs[f"dataset_{role}"].name,
        "split": name,
    }
    claim(root, made_from)
    return ExtractionSpec(
        root,
        spec,
        features,
        context.folder / TABLES[0],
        windows / "windows",
        name,
        digest(made_from),
        made_from["network"],
        decode_threads=recipe.extractor.decode_threads,
        decode=recipe.extractor.decode,
    ), network


def _earlier(spec: ExtractionSpec, context: Context) -> Iterator[Earlier]:
    """Yield finished stores of the same network and features that have images as they are now."""
    if not spec.features.made_alone:
        return
    own = Store(spec.root).made_from

    def alike(folder: Path, record: dict[str, Any]) -> Path | None:
        held = _made_from(folder, record)
        same = all(held.get(name) == own[name] for name in ("network", "features"))
        return folder / TABLES[0] if same else None

    def images() -> pa.Table:
        return pq.read_table(spec.images, columns=earlier.COLUMNS)

    for each in earlier.met(context.folder, context.settings, images, alike):
        yield Earlier(_place(each.folder, each.record["summary"]), each.folder / TABLES[0])


def listed(folder: Path, record: dict[str, Any]) -> Path | None:
    """Return the table of the images that a done job has features of, if its store is there."""
    return folder / TABLES[0] if _made_from(folder, record) else None


def _made_from(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return what decided a done job's store; nothing where that is removed or out of reach."""
    try:
        return open_store(_place(folder, record["summary"])).made_from
    except (SppError, OSError):
        return {}


def shard_plans(
    settings: Features, network: Network, images: pa.Table, made_from: str
) -> ShardPlans:
    """Group images into shards by what their vectors, or their maps, will take.

    Args:
        settings: the recipe's `[features]`.
        network: `outline`'s is enough.
        images: with their `image_id`, `width`, `height`, `bytes` and `windows`.
        made_from: digest of everything else that decides the content.
    """
    columns = {name: images[name] for name in ("image_id", "windows", "bytes")}
    if settings.store == "maps":
        taken = cache(partial(map_bytes, network, settings))  # a dataset has few sizes
        sizes = zip(images["width"].to_pylist(), images["height"].to_pylist(), strict=True)
        columns["map_bytes"] = pa.array([taken(*size) for size in sizes], pa.int64())
    row_bytes = 0 if settings.store == "maps" else vector_spec(network, settings).row_bytes
    limits = (settings.shard_bytes, made_from, settings.shard_images)
    return plan_shards(pa.table(columns), row_bytes, *limits)


def sound(folder: Path, summary: dict[str, Any]) -> str | None:
    """Return what is wrong with the store that a done job left, by names and sizes."""
    return store_sound(_place(folder, summary))


def _place(folder: Path, summary: dict[str, Any]) -> Place:
    """Return where the store of a done job lies."""
    return place(summary.get("store") or folder / STORE)


def _extract(spec: ExtractionSpec, plans: ShardPlans, context: Context, log: ShardLog) -> None:
    """Run the extractors for the shards that are not committed.

    Raises:
        SppError: some shards failed; all others are committed.
    """
    failed: dict[str, Exception] = {}
    missing = plans.without(committed(spec.root))
    done, notes = len(plans) - len(missing), Notes(context)
    if done and missing:
        context.note(f"{done:,} of {len(plans):,} shards are there already")
    with context.progress.bar(f"{context.job}: shards", len(plans), done) as bar:
        for outcome in context.runner.extract(spec, missing, context.recipe.extractor, notes):
            bar.advance()
            if outcome.error is None:
                notes.decoded_here(outcome.result.decoded_here)
                log.committed(outcome.result)
            else:
                failed[outcome.key] = outcome.error
                log.failed(outcome.key, outcome.error)
    raise_failures(failed, "shards")


def _finish(spec: ExtractionSpec, plans: ShardPlans, context: Context, log: ShardLog) -> Totals:
    """Write the manifest; shards that then prove to be damaged are mended or made again, once.

    Only here every record is read: whether one is cut short no listing tells.
    """
    root, asked = spec.root, (plans.ids, spec.made_from, len(plans.images))
    log.found(root)
    try:
        return finish(root, *asked)
    except DamagedShardsError as error:
        for line in remake(root, error.shard_ids):
            context.note(line)
    _extract(spec, plans, context, log)
    log.found(root)
    return finish(root, *asked)


def reads(recipe: Recipe) -> Any:
    """Return the features, the network, and the content of its weights file.

    Raises:
        RecipeError: no such network or weights, or they do not have what the recipe asks for: said
            before any job runs.
    """
    network, held = network_content(recipe), weights_content(recipe)
    vector_spec(outline(recipe), recipe.features.emitted)  # a layer, pyramid or rank that cannot be
    if recipe.network.preprocessing is not None:
        preprocessing.preset(recipe.network.preprocessing)
    return [recipe.features.model_dump(mode="json"), network, held, recipe.seed]


def _write_labels(spec: ExtractionSpec, context: Context, dataset: Path) -> pa.Table:
    """Put the image set's two tables beside its shards; return its images, sorted.

    What the extractors read says when files were modified. The store does not: equal images give
    equal stores, whenever they were copied.
    """
    images, objects = index.read_tables(dataset)
    images = by_image(images)
    write_labels(place(spec.images.parent), spec.images.name, images)
    stored = images.drop_columns("modified_ns")
    if context.stores is None:
        stored = _from_here(stored, context.folder)
    if MANIFEST not in spec.root.listing(""):  # a finished one may be read, and is whole
        for name, table in zip(TABLES, (stored, objects), strict=True):
            write_labels(spec.root, name, table)
    return images.select(["image_id", "width", "height", "bytes"])  # of millions, no more than this


def _from_here(images: pa.Table, folder: Path) -> pa.Table:
    """Let files of the run directory start from the store, which then may go along with it."""
    runs, files = folder.parents[1], images["file"]
    if not any(Path(file).is_relative_to(runs) for file in files[:1].to_pylist()):
        return images  # a dataset is in there or is not
    # Chunk by chunk: millions of names as Python's strings are half a driver's memory.
    near = pa.chunked_array(
        [
            pa.array([os.path.relpath(file, folder / STORE) for file in part.to_pylist()])
            for part in files.chunks
        ],
        pa.string(),
    )
    return images.set_column(images.column_names.index("file"), index.IMAGES.field("file"), near)


if __name__ == "__main__":
    from jobs.cli import main

    main("extract")
