"""The command line, `spp`."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import (
    export,
    filters,
    found,
    model,
    new,
    plan,
    quarantine,
    query,
    serve,
    show,
    similar,
    status,
    steps,
    stores,
    streaming,
    submit,
    table,
    train_classifier,
)
from jobs.asked import ask
from jobs.execution import FAILED, USAGE, execute
from jobs.options import (
    AddressOption,
    DataOption,
    JsonOption,
    RecipeArgument,
    RunsOption,
    SerialOption,
    SetOption,
    ShelfOption,
    StoresOption,
    load,
)
from jobs.page import page_file
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.errors import InputError, RecipeError, SppError
from pipeline.report.page.charts import MOST_RUNS

MOST_LETTERS = 3000  # of an error

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
        code = execute(
            [known], [steps.targets(known, name)], runs, serial, address, as_json, stores_
        )
        raise typer.Exit(code)


for _name, _text in {
    "run": "Run a recipe: windows, features, classifiers, detections, average precision.",
    "windows": "Make or import candidate windows, and measure their recall.",
    "pretrain": "Train the recipe's own network from nothing.",
    "extract": "Extract features into Parquet shards.",
    "train": "Train the first classifiers.",
    "mine": "Mine hard negatives.",
    "finetune": "Fine-tune the fc layers on stored pool5, for the layers ftfc6 and ftfc7.",
    "regress": "Fit box regressors, which move detections onto their objects.",
    "errors": "Count top-1 and top-5 errors of the network's own classifier, by test views.",
    "evaluate": "Measure average precision.",
}.items():
    _command(_name, _text)


def _page_file(known: Sequence[Recipe], out: Path | None, runs: Path) -> Path | None:
    """Return where the page goes; None: whole images are classified, which have none.

    All that is wrong with it is told before anything runs.
    """
    names = [each.name for each in known]
    classifying = [each.name for each in known if each.task == "classification"]
    if classifying and (out is not None or len(known) > 1):
        raise typer.BadParameter(f"pages are about detection, and {classifying[0]} classifies")
    if len(known) > MOST_RUNS:
        raise typer.BadParameter(f"a page has room for {MOST_RUNS} runs, not {len(known)}")
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"{', '.join(names)}: recipes on one page need different names")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise typer.BadParameter(f"--out {out}: give a file in a folder that is there")
    with suppress(InputError):  # of data that are not there the job says so
        if len({class_names(each.dataset) for each in known}) > 1:
            raise typer.BadParameter(f"{' and '.join(names)} have different classes")
    return None if classifying else out or page_file(runs, names)


@app.command()
def report(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="TOML files, or names of shipped ones."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Where the page goes; default: in --runs."),
    ] = None,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    serial: SerialOption = False,
    address: AddressOption = None,
    stores_: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures and curves, and write a page about the run; several stand beside each other."""
    known = [load(each, set_, data) for each in recipes]
    page_file = _page_file(known, out, runs)
    wanted = [steps.targets(each, "run") for each in known]
    raise typer.Exit(execute(known, wanted, runs, serial, address, as_json, stores_, page_file))


@app.command()
def detect(
    named: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE|STORE|IMAGES...",
            help="A recipe; with --class a store, as for spp new; with --model image files, "
            "folders, patterns in quotes, or prefixes such as s3://bucket/photos/.",
        ),
    ],
    model_: Annotated[
        Path | None,
        typer.Option("--model", metavar="FOLDER", help="What spp model made: detect in images."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", help="Taught with spp new; may be repeated."),
    ] = None,
    shelf: ShelfOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PLACE",
            help="With --class or --model: write all here, FILE.parquet; with --model also "
            "FILE.json as COCO has it, or a folder for VOC's text files.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With --model: draw each image here.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="With --pictures: detections drawn are above it [0].")
    ] = None,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    serial: SerialOption = False,
    address: AddressOption = None,
    stores_: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Detect in a recipe's test images, a taught class in a store's, or a model's in any images."""
    if score is not None and pictures is None:
        raise typer.BadParameter("--score goes with --pictures")
    if model_ is not None:
        if classes or shelf is not None or data is not None or set_ or stores_ is not None:
            raise typer.BadParameter(
                "--class, --shelf, --data, --set and --stores have no part in --model: a model "
                "carries its own settings"
            )
        wanted = streaming.Wanted(out, pictures, score or 0.0, as_json)
        raise typer.Exit(streaming.detect(named, model_, wanted, runs, serial, address))
    if len(named) > 1:
        raise typer.BadParameter("several images go with --model, the folder that spp model made")
    if classes:
        found.detect(ask(named[0], runs, data, set_).on(shelf), classes, out, as_json)
        return
    if shelf is not None or out is not None or pictures is not None:
        raise typer.BadParameter(
            "--shelf and --out go with --class, which names what to detect; --out and --pictures "
            "with --model"
        )
    known = load(named[0], set_, data)
    target = [steps.TARGETS["detect"]]
    raise typer.Exit(execute([known], target, runs, serial, address, as_json, stores_))


@app.command()
def classify(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Image files, folders, patterns in quotes, or prefixes such as s3://bucket/photos/.",
        ),
    ],
    model_: Annotated[
        Path,
        typer.Option(
            "--model", metavar="FOLDER", help="What spp train-classifier or spp model made."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all here: FILE.csv or FILE.parquet.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes told of each image, best first.")] = 3,
    runs: RunsOption = Path("runs"),
    serial: SerialOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what images show, by a model of whole images."""
    answered = streaming.classify(given, model_, out, top, as_json, runs, serial, address)
    raise typer.Exit(answered)


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
    query.query,
    export.export,
    stores.fsck,
    stores.gc,
    quarantine.quarantine,
    similar.similar,
    similar.index,
    filters.filters,
    new.new,
    serve.serve,
    submit.submit,
    model.model,
    table.table,
    table.combine,
    train_classifier.train_classifier,
):
    app.command()(_function)


def run_main(command: Callable[[], Any]) -> None:
    """Run a command; an error that a person can mend becomes one line, and an exit code."""
    try:
        command()
    except (SppError, OSError) as error:  # the system's own errors name the file
        show.say(f"error: {_told(error)}", err=True)
        sys.exit(USAGE if isinstance(error, RecipeError) else FAILED)


def _told(error: Exception) -> str:
    """Return an error as one line; a name in it may be as long as others like."""
    text = " ".join(str(error).split("\n"))
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS // 2]} … {text[-500:]}"


def main(*command: str) -> None:
    """Entry point of `spp`, and of `python -m jobs.<name>` with the name as its command."""
    run_main(lambda: app([*command, *sys.argv[1:]], prog_name=" ".join(["spp", *command])))
