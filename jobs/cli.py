"""The command line, `spp`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from jobs import plan, status, steps, stores, submit
from jobs.execution import FAILED, USAGE, execute
from jobs.options import (
    AddressOption,
    DataOption,
    JsonOption,
    RecipeArgument,
    RunsOption,
    SerialOption,
    SetOption,
    StoresOption,
    load,
)
from pipeline.errors import RecipeError, SppError

app = typer.Typer(
    help="Spatial pyramid pooling features on Ray: extract once, then ask as often as you like.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _command(name: str, text: str) -> None:
    """Add a command that brings the DAG as far as the jobs of that name."""

    @app.command(name, help=text)
    def command(
        recipe: RecipeArgument,
        runs: RunsOption = Path("runs"),
        data: DataOption = None,
        set_: SetOption = None,
        serial: SerialOption = False,
        address: AddressOption = None,
        stores_: StoresOption = None,
        as_json: JsonOption = False,
    ) -> None:
        known = load(recipe, set_, data)
        code = execute([known], [steps.TARGETS[name]], runs, serial, address, as_json, stores_)
        raise typer.Exit(code)


for _name, _text in {
    "run": "Run a recipe: windows, features, classifiers, detections, average precision.",
    "windows": "Make or import candidate windows, and measure their recall.",
    "pretrain": "Train the recipe's own network from nothing.",
    "extract": "Extract features into Parquet shards.",
    "train": "Train the first classifiers.",
    "mine": "Mine hard negatives.",
    "detect": "Detect in the test images.",
    "evaluate": "Measure average precision.",
    "report": "Draw test images with their detections, and the curves.",
}.items():
    _command(_name, _text)


@app.command()
def demo(
    runs: RunsOption = Path("runs"),
    serial: SerialOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the embedded digits, with a trained network and with an untrained one to compare."""
    recipes = [load("digits", None, None), load("digits_untrained", None, None)]
    # Of the untrained network only the number is wanted.
    targets = [steps.TARGETS["run"], steps.TARGETS["evaluate"]]
    raise typer.Exit(execute(recipes, targets, runs, serial, address, as_json))


for _function in (
    plan.plan,
    status.status,
    stores.verify,
    stores.query,
    stores.fsck,
    stores.gc,
    submit.submit,
):
    app.command()(_function)


def run_main(command: Callable[[], Any]) -> None:
    """Run a command; an error that a person can mend becomes one line, and an exit code."""
    try:
        command()
    except (SppError, OSError) as error:  # the system's own errors name the file
        typer.echo(f"error: {error}", err=True)
        sys.exit(USAGE if isinstance(error, RecipeError) else FAILED)


def main(*command: str) -> None:
    """Entry point of `spp`, and of `python -m jobs.<name>` with the name as its command."""
    run_main(lambda: app([*command, *sys.argv[1:]], prog_name=" ".join(["spp", *command])))
