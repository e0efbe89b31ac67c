"""`spp model`: what a recipe has learnt as a folder of its own, for images that no store has."""

from pathlib import Path
from typing import Annotated

import typer

from jobs import dag, steps
from jobs.execution import FAILED, INTERRUPTED, USAGE, execute
from jobs.network import trained_spec
from jobs.options import (
    AddressOption,
    DataOption,
    RecipeArgument,
    RunsOption,
    SerialOption,
    SetOption,
    StoresOption,
    load,
)
from pipeline.config import Recipe
from pipeline.errors import InputError
from pipeline.model import ModelSpec, pack


def model(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model goes.")],
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    serial: SerialOption = False,
    address: AddressOption = None,
    stores: StoresOption = None,
) -> None:
    """Pack a recipe's network, classifiers and box regressors, for spp detect --model.

    What is not trained yet is trained first.
    """
    known = load(recipe, set_, data)
    _require_folder(out)
    target = ("mine", "regress") if known.regression.enabled else ("mine",)
    code = execute([known], [target], runs, serial, address, False, stores)
    if code in (FAILED, USAGE, INTERRUPTED):
        raise typer.Exit(code)
    planned = dag.plan(steps.detection_jobs(known), known, runs.resolve())
    done = pack(model_spec(known, {name: step.folder for name, step in planned.items()}), out)
    typer.echo(f"{out}: {done.classes} classes, {done.bytes / 1e6:,.1f} MB")
    typer.echo(f"spp detect IMAGES... --model {out}")
    raise typer.Exit(code)


def _require_folder(out: Path) -> None:
    """Check that a model may go there, before anything is trained for it."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder for the model with --out")


def model_spec(recipe: Recipe, folders: dict[str, Path]) -> ModelSpec:
    """Return what a recipe's model is made of.

    Args:
        recipe: whose classifiers are trained.
        folders: of its jobs.
    """
    return ModelSpec(
        trained_spec(recipe, folders),
        recipe.features.emitted,
        recipe.windows,
        recipe.detection,
        recipe.seed,
        folders["mine"],
        folders["regress"] if recipe.regression.enabled else None,
    )
