"""The command line, `spp`."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from actors import resources
from actors.progress import Progress
from actors.runner import RayRunner, Runner, SerialRunner, Stopped
from jobs import dag, plan, show, steps
from pipeline import config, store
from pipeline.errors import RecipeError, SppError
from pipeline.store.files import read_json

DONE, FAILED, USAGE, QUARANTINED, INTERRUPTED = 0, 1, 2, 3, 130
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
        execution = execute([known], [steps.TARGETS[name]], runs, serial, address, as_json)
        raise typer.Exit(execution)


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
        return
    show.print_table(rows[0], [[_number(value) for value in row.values()] for row in rows])
    if not all(each.counted for each in plans):
        typer.echo("windows: the most there can be; `spp windows` makes and counts them")
    typer.echo(f"recommended: {plan.recommend(known, plans)}")


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
    rows = [_status_row(step) for step in planned.values()]
    if as_json:
        show.print_json(rows)
        return
    columns = ("job", "state", "seconds", "result")
    show.print_table(columns, [[row[name] for name in columns] for row in rows])


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="A store of features.")]) -> None:
    """Prove that a store is whole: every byte is read and held against its record."""
    faults = store.open(folder).verify()
    for fault in faults:
        typer.echo(f"{fault.shard_id} {fault.problem}")
    held = store.open(folder)
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


def execute(
    recipes: list[config.Recipe],
    targets: list[tuple[str, ...]],
    runs: Path,
    serial: bool = False,
    address: str | None = None,
    as_json: bool = False,
) -> int:
    """Run what is missing for each recipe's targets, in turn; return the exit code."""
    progress, runs = Progress(quiet=as_json), runs.resolve()  # workers may start elsewhere
    plans = [dag.plan(steps.detection_jobs(recipe), recipe, runs) for recipe in recipes]
    wanted = list(zip(recipes, plans, targets, strict=True))
    missing = [name for _, each, names in wanted for name in names if not is_done(each, name)]
    try:
        runner = _runner(serial, address) if missing else SerialRunner()
        codes = [
            _execute_one(recipe, each, names, runs, runner, progress)
            for recipe, each, names in wanted
        ]
    except (KeyboardInterrupt, Stopped):
        return _interrupted()
    if as_json:
        show.print_json([_status_row(step) for each in plans for step in each.values()])
    elif "evaluate" in targets[0]:
        summarise(recipes, plans, runs)
    return max(codes, key=[DONE, QUARANTINED, USAGE, FAILED].index)


def is_done(planned: dict[str, dag.Step], target: str) -> bool:
    """Return whether a target, and so everything it needs, is done."""
    if target not in planned:
        names = ", ".join(planned)
        raise RecipeError(f"this recipe has no job {target}; it has {names}")
    return all(planned[name].state is dag.State.done for name in dag.upstream(planned, [target]))


def _runner(serial: bool, address: str | None) -> Runner:
    if serial:
        return SerialRunner()
    resources.connect(address)
    return RayRunner()


def _execute_one(
    recipe: config.Recipe,
    planned: dict[str, dag.Step],
    targets: tuple[str, ...],
    runs: Path,
    runner: Runner,
    progress: Progress,
) -> int:
    dag.write_run(runs, recipe, planned)
    progress.heading(recipe.name)
    for name in dag.upstream(planned, targets):
        record = planned[name].record
        if record is not None:
            progress.skipped(name, dag.headline(record["summary"]))
    threads = 1 if isinstance(runner, SerialRunner) else 4
    with progress.shown():
        report = dag.execute(planned, targets, recipe, runner, progress, threads)
    if report.failed:
        if report.blocked:
            progress.note(f"not run, for they need it: {', '.join(report.blocked)}")
        return USAGE if report.blames_recipe else FAILED
    records = [planned[name].record or {} for name in dag.upstream(planned, targets)]
    summaries = [record.get("summary", {}) for record in records]
    told = [each.get(key, {}) for each in summaries for key in ("unreadable", "reasons")]
    lost = {image_id: reason for each in told for image_id, reason in each.items()}
    for image_id, reason in lost.items():
        progress.note(f"quarantined: image {image_id}: {reason}")
    return QUARANTINED if lost else DONE


def _interrupted() -> int:
    """Say how to go on; leave at once where work in hand was not waited for."""
    typer.echo("interrupted; the same command goes on where this one stopped", err=True)
    main = threading.main_thread()
    if any(each is not main and not each.daemon for each in threading.enumerate()):
        os._exit(INTERRUPTED)  # the interpreter would wait for them; files are whole or absent
    return INTERRUPTED


def summarise(recipes: list[config.Recipe], plans: list[dict[str, dag.Step]], runs: Path) -> None:
    """Print the table of the first recipe, the mAP of each, and where to look."""
    for recipe, planned in zip(recipes, plans, strict=True):
        record = planned["evaluate"].record
        if record is None:
            continue
        folder = planned["evaluate"].folder
        if planned is plans[0]:
            typer.echo((folder / "ap.txt").read_text(encoding="utf-8"))
            sheet = planned["report"].folder / "pictures" / "sheet.png"
            if sheet.is_file():
                near = sheet.is_relative_to(Path.cwd())
                typer.echo(f"pictures: {sheet.relative_to(Path.cwd()) if near else sheet}\n")
        ap = record["summary"]["mAP"]
        typer.echo(f"{recipe.name}: mAP {ap:.3f}" if ap is not None else f"{recipe.name}: no mAP")


def _status_row(step: dag.Step) -> dict[str, Any]:
    record = step.record or {}
    failure = read_json(step.folder / dag.ERROR) or {}
    summary = record.get("summary", {})
    return {
        "job": step.job.name,
        "state": str(step.state),
        "seconds": record.get("seconds", ""),
        "result": dag.headline(summary) or failure.get("error", ""),
        "summary": summary,
        "folder": str(step.folder),
    }


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
