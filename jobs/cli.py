"""The command line, `spp`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import dag, plan, show, steps
from jobs.execution import DONE, FAILED, QUARANTINED, USAGE, execute, status_row
from pipeline import config, store
from pipeline.errors import RecipeError, SppError

RECIPES = Path(__file__).parent / "recipes"
ROWS_SHOWN = 100  # of a query's answer, on a screen

app = typer.Typer(
    help="Spatial pyramid pooling features on Ray: extract once, then ask as often as you like.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped one.")]
RunsOption = Annotated[Path, typer.Option(help="Folder that holds every run's output.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Folder that relative paths in the recipe start from.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one field of the recipe."),
]
SerialOption = Annotated[bool, typer.Option(help="Run in this process, without Ray.")]
AddressOption = Annotated[str | None, typer.Option(help="Ray cluster; default: start one here.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


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
        as_json: JsonOption = False,
    ) -> None:
        known = load(recipe, set_, data)
        code = execute([known], [steps.TARGETS[name]], runs, serial, address, as_json)
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


@app.command("plan")
def plan_command(
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
    steps_ = dag.plan(steps.detection_jobs(known), known, runs.resolve())
    plans = plan.plan_stores(known, steps_)
    rows = [plan.rows_of(each) for each in plans]
    if as_json:
        show.print_json({"stores": rows, "recommended": plan.recommend(known, plans)})
        raise typer.Exit(code)
    show.print_table(rows[0], [[_number(value) for value in row.values()] for row in rows])
    if not all(each.counted for each in plans):
        typer.echo("windows: the most there can be; `spp windows` makes and counts them")
    typer.echo(f"recommended: {plan.recommend(known, plans)}")
    raise typer.Exit(code)


@app.command()
def status(
    recipe: RecipeArgument,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which jobs of a recipe are done, with their figures."""
    known = load(recipe, set_, data)
    planned = dag.plan(steps.detection_jobs(known), known, runs)
    rows = [status_row(step) for step in planned.values()]
    if as_json:
        show.print_json(rows)
        return
    columns = ("job", "state", "seconds", "result")
    show.print_table(columns, [[row[name] for name in columns] for row in rows])


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="A store of features.")]) -> None:
    """Prove that a store is whole: every byte is read and held against its record."""
    held = store.open(folder)
    faults = held.verify()
    for fault in faults:
        typer.echo(f"{fault.shard_id} {fault.problem}")
    if not faults:
        typer.echo(f"{len(held.records)} shards, {len(held):,} rows: whole")
    else:
        typer.echo(
            "to mend: remove each shard named here with its file in records/, and done.json beside "
            "the store; then run the recipe again, which makes what is missing"
        )
    raise typer.Exit(FAILED if faults else DONE)


@app.command()
def query(
    folder: Annotated[Path, typer.Argument(help="A store of features.")],
    sql: Annotated[str, typer.Argument(help="Over the tables windows, images and objects.")],
    as_json: JsonOption = False,
) -> None:
    """Ask a store in SQL."""
    answer = store.open(folder).sql(sql)
    if as_json:
        show.print_json(answer.to_pylist())
        return
    shown = answer.slice(0, ROWS_SHOWN)
    cells = (column.to_pylist() for column in shown.columns)
    show.print_table(shown.column_names, zip(*cells, strict=True))
    if len(shown) < len(answer):
        typer.echo(f"{len(shown)} of {len(answer):,} rows; --json gives all", err=True)


def load(recipe: str, overrides: list[str] | None, data: Path | None) -> config.Recipe:
    """Read a recipe from a file, or by its name from those that are shipped."""
    shipped = RECIPES / f"{recipe}.toml"
    path = shipped if not Path(recipe).is_file() and shipped.is_file() else Path(recipe)
    if not path.exists() and not path.suffix:
        names = ", ".join(sorted(each.stem for each in RECIPES.glob("*.toml")))
        raise RecipeError(f"no recipe {recipe}; give a TOML file, or one of {names}")
    return config.load(path, tuple(overrides or ()), data)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


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
