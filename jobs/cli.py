"""The command line, `spp`: its commands by task."""

import importlib.metadata
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import typer

from jobs.exit_codes import FAILED, USAGE
from jobs.shell import Commands, Listed
from pipeline.errors import RecipeError, SppError
from pipeline.printable import lines

MOST_LETTERS = 3000  # of an error
DEBUG = "--debug"


class Spp(Commands):
    """What `spp` can do."""

    names_only = "Bring a recipe as far as one job"
    listed: ClassVar = {
        "Run a recipe": {
            "demo": Listed("jobs.run", "Run the embedded digits, trained and untrained"),
            "plan": Listed("jobs.plan", "Show what a recipe will take before it runs"),
            "run": Listed("jobs.run", "Bring a recipe from images to average precision"),
            "status": Listed("jobs.status", "Show how far jobs are, at work or dead"),
            "report": Listed("jobs.run", "Write a page about a run, or several beside each other"),
            "submit": Listed("jobs.submit", "Run a recipe as a job of a Ray cluster"),
        },
        "Images of your own, with a model or a folder for each class": {
            "train-classifier": Listed("jobs.train_classifier", "Learn what whole images show"),
            "classify": Listed("jobs.detecting", "Tell what images show"),
            "model": Listed("jobs.model", "Pack what a recipe has learnt"),
            "detect": Listed("jobs.detecting", "Find objects, by a model or a taught class"),
        },
        "Ask stored features": {
            "query": Listed("jobs.query", "Ask a store in SQL"),
            "similar": Listed("jobs.similar", "Find the windows that look like one"),
            "filters": Listed("jobs.filters", "Show what a network's filters respond to"),
            "new": Listed("jobs.new", "Teach a store a new class by examples"),
            "serve": Listed("jobs.serve", "Look, search and teach in the browser"),
            "index": Listed("jobs.similar", "Make a compact copy of the vectors, to be faster"),
            "export": Listed("jobs.export", "Copy a store for DuckDB, polars and others"),
        },
        "Look after stores": {
            "verify": Listed("jobs.stores", "Prove that a store is whole"),
            "quarantine": Listed("jobs.quarantine", "List images that were left out, and why"),
            "fsck": Listed("jobs.stores", "Mend what can be mended"),
            "gc": Listed("jobs.stores", "Remove what killed attempts have left"),
        },
        "Compare, as the paper does": {
            "table": Listed("jobs.table", "Run every row of a table, side by side"),
            "combine": Listed("jobs.table", "Combine the models of several recipes"),
            "errors": Listed("jobs.run", "Count a network's top-1 and top-5 errors"),
        },
        names_only: {
            "windows": Listed("jobs.run", "Candidate windows, and their recall"),
            "pretrain": Listed("jobs.run", "The recipe's own network, trained from nothing"),
            "extract": Listed("jobs.run", "Features, into Parquet shards"),
            "finetune": Listed("jobs.run", "The fc layers, fine-tuned on stored pool5"),
            "train": Listed("jobs.run", "The first classifiers"),
            "mine": Listed("jobs.run", "Classifiers with mined hard negatives"),
            "regress": Listed("jobs.run", "Box regressors"),
            "evaluate": Listed("jobs.run", "Detections, and average precision"),
        },
    }


app = typer.Typer(
    help="From images to detectors: features are extracted once, then asked as often as you like. "
    "`spp COMMAND --help` says more, with examples.",
    cls=Spp,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"sppnet {importlib.metadata.version('sppnet')}")
        except importlib.metadata.PackageNotFoundError:  # a folder that was sent is not installed
            typer.echo("sppnet, not installed as a package")
        raise typer.Exit


@app.callback()
def _spp(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show where an error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it, and exit.")
    ] = False,
) -> None:
    del debug, version  # --debug was taken out before, wherever it stands


def run_main(command: Callable[[], Any], debug: bool = False) -> None:
    """Run a command; an error becomes one line, and an exit code.

    Args:
        command: does it.
        debug: whether the traceback is shown, too.
    """
    try:
        command()
    except (SppError, OSError) as error:  # the system's own errors name the file
        _say(f"error: {_told(error)}", debug)
        sys.exit(USAGE if isinstance(error, RecipeError) else FAILED)
    except Exception as error:  # noqa: BLE001 - a fault of ours, which is told like any other
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in line {last.lineno} of {last.filename}"
        _say(
            f"error: {_told(error)} ({where}): a fault of this program; please report what "
            f"{DEBUG}, added to the command, shows",
            debug,
        )
        sys.exit(FAILED)


def _say(text: str, debug: bool) -> None:
    if debug:
        typer.echo(lines(traceback.format_exc()), err=True)
    typer.echo(lines(text), err=True)


def _told(error: Exception) -> str:
    """Return an error as one line; a name in it may be as long as others like."""
    text = " ".join(str(error).split("\n"))
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS // 2]} … {text[-500:]}"


def main(*command: str) -> None:
    """Entry point of `spp`, and of `python -m jobs.<name>` with the name as its command."""
    given = [*command, *sys.argv[1:]]
    plain = [each for each in given if each != DEBUG]
    run_main(lambda: app(plain, prog_name="spp"), debug=len(plain) < len(given))
