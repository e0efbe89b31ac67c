"""`spp detect` and `spp classify`: what is learnt, looked for in images."""

from pathlib import Path
from typing import Annotated

import typer

from jobs import found, steps, streaming
from jobs.asked import ask
from jobs.execution import execute
from jobs.options import (
    AddressOption,
    DataOption,
    JsonOption,
    RunsOption,
    SerialOption,
    SetOption,
    ShelfOption,
    StoresOption,
    load,
)


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
    """Find objects, by a model or a taught class.

    A model finds its classes in any images, --class what spp new was taught in a store's, and a
    recipe alone its own in its test images.

    Examples:
        spp detect photos/ --model zebras --out found.json --pictures drawn
        spp detect digits:test --class stroke
        spp detect digits
    """
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
    """Tell what images show.

    A score is a margin, not a probability: above 0 is the classifier's yes.

    Examples:
        spp classify new/ --model zoo --out told.csv
        spp classify "new/*.jpg" s3://bucket/album/ --model zoo --top 1
    """
    answered = streaming.classify(given, model_, out, top, as_json, runs, serial, address)
    raise typer.Exit(answered)
