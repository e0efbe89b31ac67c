"""`spp model`: what a recipe has learnt as a folder of its own, for images that no store has."""

from pathlib import Path
from typing import Annotated

import typer

from jobs import dag, show, steps
from jobs.execution import execute
from jobs.exit_codes import FAILED, INTERRUPTED, USAGE
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
    """Pack what a recipe has learnt.

    Into a folder of its own, for spp detect --model and spp classify --model. What is not trained
    yet is trained first.

    Examples:
        spp model mine.toml --out zebras
    """
    known = load(recipe, set_, data)
    raise typer.Exit(make(known, out, runs, serial, address, stores))


def make(
    recipe: Recipe,
    out: Path,
    runs: Path,
    serial: bool,
    address: str | None,
    stores: str | None = None,
    also: tuple[str, ...] = (),
) -> int:
    """Train what is not trained yet, pack it, and say how to use it; return the exit code.

    Args:
        recipe: whose model it is.
        out: folder of the model.
        runs: as for `execute`, and so are `serial`, `address` and `stores`.
        serial: see there.
        address: see there.
        stores: see there.
        also: further jobs that are wanted, before those of the model.

    Raises:
        InputError: no model can go there.
    """
    require_folder(out)
    classifies = recipe.task == "classification"
    target = ("train",) if classifies else ("mine",)
    target += ("regress",) if recipe.regression.enabled else ()
    code = execute([recipe], [(*also, *target)], runs, serial, address, False, stores)
    if code in (FAILED, USAGE, INTERRUPTED):
        return code
    planned = dag.plan(steps.jobs_of(recipe), recipe, runs.resolve())
    done = pack(model_spec(recipe, {name: step.folder for name, step in planned.items()}), out)
    show.say(f"{out}: {done.classes} classes, {done.bytes / 1e6:,.1f} MB")
    show.say(f"spp {'classify' if classifies else 'detect'} IMAGES... --model {out}")
    return code


def require_folder(out: Path) -> None:
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
        recipe.task,
        folders["train" if recipe.task == "classification" else "mine"],
        folders["regress"] if recipe.regression.enabled else None,
    )
