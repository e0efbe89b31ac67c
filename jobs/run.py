"""`spp run` and its like: what brings recipes as far as some of their jobs."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from jobs import last_run, show, steps
from jobs.execution import execute
from jobs.exit_codes import DONE, QUARANTINED
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
from jobs.page import Run, page_file
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.errors import InputError
from pipeline.report.page.charts import MOST_RUNS


def _bringing(target: str, told: str) -> Callable[..., None]:
    """Return a command that brings the DAG as far as the jobs of that name."""

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
        wanted = [steps.targets(known, target)]
        code = execute([known], wanted, runs, serial, address, as_json, stores_)
        if not (known.dataset.has_labels or as_json) and code in (DONE, QUARANTINED):
            changed = "".join(f" --set {shlex.quote(each)}" for each in set_ or ())
            show.say(f"next: spp serve {recipe}:train{changed}")
            show.say(f"or:   spp new CLASS {recipe}:train --box IMAGE_ID:X0,Y0,X1,Y1{changed}")
        raise typer.Exit(code)

    command.__doc__ = told
    return command


run = _bringing(
    "run",
    """Bring a recipe from images to average precision.

    What is done already is skipped; killed or interrupted, the same command goes on.

    Examples:
        spp run digits
        spp run mine.toml --set mining.rounds=converged   # one field changed: only what it touches
        spp run mine.toml --serial                        # in this process, without Ray
        spp run mine.toml --address HOST:6379             # on a cluster that sees the same folders
    """,
)
windows = _bringing(
    "windows",
    """Candidate windows, and their recall.

    Nothing that is found later can be better than they are.

    Examples:
        spp windows digits
        spp windows mine.toml --set windows.method=grid
    """,
)
pretrain = _bringing(
    "pretrain",
    """The recipe's own network, trained from nothing.

    Of recipes with network.weights = "pretrain".

    Examples:
        spp pretrain digits
    """,
)
extract = _bringing(
    "extract",
    """Features, into Parquet shards.

    Examples:
        spp extract digits
        spp extract mine.toml --stores s3://bucket/stores   # shards on an object store
    """,
)
finetune = _bringing(
    "finetune",
    """The fc layers, fine-tuned on stored pool5.

    Of recipes with features.layer = "ftfc6" or "ftfc7" (paper section 4.1).

    Examples:
        spp finetune digits --set features.layer=ftfc7
    """,
)
train = _bringing(
    "train",
    """The first classifiers.

    Examples:
        spp train digits
        spp train digits --set svm.solver=dense   # all classes at once
    """,
)
mine = _bringing(
    "mine",
    """Classifiers with mined hard negatives.

    Examples:
        spp mine digits
        spp mine digits --set mining.rounds=converged
    """,
)
regress = _bringing(
    "regress",
    """Box regressors.

    They move detections onto their objects; of recipes with regression.enabled = true.

    Examples:
        spp regress digits --set regression.enabled=true
    """,
)
errors = _bringing(
    "errors",
    """Count a network's top-1 and top-5 errors.

    Of its own classifier, on test images of one class each, by the paper's views: one crop, the
    full image, ten crops, eight crops and two full images.

    Examples:
        spp errors digit_images
    """,
)
evaluate = _bringing(
    "evaluate",
    """Detections, and average precision.

    Examples:
        spp evaluate digits
        spp evaluate digits --set evaluation.iou=0.7
    """,
)


def report(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="TOML files, or names of shipped ones."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Where the page goes; default: in --runs."),
    ] = None,
    before: Annotated[
        bool,
        typer.Option("--before", help="Beside its last whole run that had other fields or images."),
    ] = False,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    serial: SerialOption = False,
    address: AddressOption = None,
    stores_: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a page about a run, or several beside each other.

    What is missing is run first. Also draws test images with their detections, and curves; or of
    whole images who is taken for whom.

    Examples:
        spp report digits
        spp report digits digits_untrained --out both.html   # what differs, side by side
        spp report mine.toml --before                        # what its last change was worth
    """
    known = [load(each, set_, data) for each in recipes]
    if before and len(known) > 1:
        raise typer.BadParameter(f"--before is about one recipe, and here are {len(known)}")
    beside = [last_run.before(known[0], runs.resolve())] if before else []
    where = _page_file(known, out, runs, beside)
    for each in known:
        steps.targets(each, "report")  # refuses those that have nothing to tell
    wanted = [steps.targets(each, "run") for each in known]
    code = execute(known, wanted, runs, serial, address, as_json, stores_, where, beside)
    raise typer.Exit(code)


def demo(
    runs: RunsOption = Path("runs"),
    serial: SerialOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the embedded digits, trained and untrained.

    By a network that learns them first, and by the same as it was before: what features are worth.

    Examples:
        spp demo
    """
    recipes = [load("digits", None, None), load("digits_untrained", None, None)]
    # Of the untrained network only the number is wanted.
    targets = [steps.TARGETS["run"], steps.TARGETS["evaluate"]]
    raise typer.Exit(execute(recipes, targets, runs, serial, address, as_json))


def _page_file(
    known: Sequence[Recipe], out: Path | None, runs: Path, beside: Sequence[Run]
) -> Path:
    """Return where the page goes.

    What can be told to be wrong with it is told before anything runs.
    """
    names = [each.name for each in known]
    every = [*known, *(each.recipe for each in beside)]
    tasks = {each.task: each.name for each in every}
    if len(tasks) > 1:
        raise typer.BadParameter(
            f"{tasks['detection']} detects objects and {tasks['classification']} classifies whole "
            "images, which no measure compares: write a page of each"
        )
    if len(known) > MOST_RUNS:
        raise typer.BadParameter(f"a page has room for {MOST_RUNS} runs, not {len(known)}")
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"{', '.join(names)}: recipes on one page need different names")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise typer.BadParameter(f"--out {out}: give a file in a folder that is there")
    with suppress(InputError):  # of data that are not there the job says so
        if len({class_names(each.dataset) for each in every}) > 1:
            told = [*names, *(each.name for each in beside)]
            raise typer.BadParameter(f"{' and '.join(told)} have different classes")
    return out or page_file(runs, [*names, "before"] if beside else names)


if __name__ == "__main__":
    from jobs.cli import main

    main("run")
