"""`spp plan`: what extraction will write, in either kind of store, before it runs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import typer

from jobs import dag, show, steps
from jobs.execution import DONE, QUARANTINED, execute
from jobs.extract import outline
from jobs.options import DataOption, JsonOption, RecipeArgument, RunsOption, SetOption, load
from jobs.windows import read_counts
from pipeline import index
from pipeline.config import Recipe
from pipeline.extraction import vector_spec
from pipeline.store.plan import ProjectedBytes, projected_bytes

# At one scale a pass over maps takes about as long as over vectors in the page cache; at several,
# more maps are unpacked and rows put back in order (benchmarks/maps.py).
WORTH_POOLING_AGAIN = 2  # times smaller; then the disk, or the cache it fits in, pays for it


@dataclass(frozen=True)
class StorePlan:
    """What one image set will take."""

    split: str
    images: int
    windows: int
    counted: bool
    """Whether the windows are made and counted; otherwise `windows.max_windows` an image."""
    bytes: ProjectedBytes


def plan_stores(recipe: Recipe, planned: Mapping[str, dag.Step]) -> list[StorePlan]:
    """Return what each image set will take. The job `dataset` must be done."""
    network = outline(recipe)
    folder, plans = planned["dataset"].folder, []
    for split in ("train", "test"):
        images, objects = (
            index.of_split(
                pq.read_table(folder / f"{name}.parquet"), getattr(recipe.dataset, split)
            )
            for name in ("images", "objects")
        )
        windows = planned[f"windows_{split}"]
        counts = None if windows.record is None else read_counts(windows.folder)
        # Ground truth goes in as windows too.
        most = Counter(
            {name: recipe.windows.max_windows for name in images["image_id"].to_pylist()}
        )
        most.update(objects["image_id"].to_pylist())
        sizes = [
            (each["width"], each["height"], (most if counts is None else counts)[each["image_id"]])
            for each in images.to_pylist()
        ]
        taken = projected_bytes(
            sizes,
            recipe.features.scales,
            network.map_size,
            network.channels,
            vector_spec(network, recipe.features).length,
            np.dtype(recipe.features.vector_dtype).itemsize,
            recipe.features.max_side_px,
        )
        rows = sum(each[2] for each in sizes)
        plans.append(StorePlan(split, len(images), rows, counts is not None, taken))
    return plans


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
        f'features.store = "maps" {held}: at least {vectors / maps:.0f} times smaller, before '
        f"packing. Reading vectors from them takes {costs} reading stored ones that lie in "
        "memory. Keep windows where SQL, or other programs, must see vectors"
    )


def rows_of(plan: StorePlan) -> dict[str, Any]:
    """Return one line for people and programs."""
    return {
        "split": plan.split,
        "images": plan.images,
        "windows": plan.windows,
        "windows_are": "counted" if plan.counted else "at most",
        "bytes_windows": plan.bytes.windows,
        "bytes_maps": plan.bytes.maps,
    }


def plan(
    recipe: RecipeArgument,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what extraction will write, and recommend a kind of store, before it runs."""
    known = load(recipe, set_, data)
    code = execute([known], [("dataset",)], runs, serial=True)
    if code not in (DONE, QUARANTINED):
        raise typer.Exit(code)
    planned = dag.plan(steps.detection_jobs(known), known, runs.resolve())
    plans = plan_stores(known, planned)
    rows = [rows_of(each) for each in plans]
    if as_json:
        show.print_json({"stores": rows, "recommended": recommend(known, plans)})
        raise typer.Exit(code)
    show.print_table(rows[0], [[show.number(value) for value in row.values()] for row in rows])
    if not all(each.counted for each in plans):
        typer.echo("windows: the most there can be; `spp windows` makes and counts them")
    typer.echo(f"recommended: {recommend(known, plans)}")
    raise typer.Exit(code)
