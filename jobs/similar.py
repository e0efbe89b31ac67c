"""Windows that look alike: `spp similar`, and `spp index`, which makes it faster."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from actors.progress import Progress
from jobs import show
from jobs.asked import Asked, ask
from jobs.options import (
    DataOption,
    JsonOption,
    PicturesOption,
    RunsOption,
    SetOption,
    ShelfOption,
    StoreArgument,
)
from pipeline.errors import InputError
from pipeline.report.crops import part
from pipeline.report.sheet import Crop, crop_sheet
from pipeline.search import similar as folding
from pipeline.search.asking import Wanted, region, window
from pipeline.search.compact import Compact, Recall, Record, read_record
from pipeline.search.compacting import build
from pipeline.search.nearest import Metric, nearest
from pipeline.store.blocks import query
from pipeline.store.files import written_aside
from pipeline.store.rows import Vectors
from pipeline.store.schema import BOX_COLUMNS
from pipeline.teaching.marks import shown
from pipeline.teaching.ranking import folded_in


def similar(
    named: StoreArgument,
    image: Annotated[
        str | None, typer.Argument(help="Id of an image of the store, or an image file.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="On the image, in pixels; default: all of it."),
    ] = None,
    window_: Annotated[
        str | None,
        typer.Option("--window", metavar="IMAGE_ID/WINDOW_ID", help="A window of the store."),
    ] = None,
    top: Annotated[int, typer.Option(help="How many hits.", min=1)] = 20,
    fold: Annotated[
        bool, typer.Option(help="Overlapping windows of an image count as one hit.")
    ] = True,
    class_: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="Rank by the score of this class instead."),
    ] = None,
    shelf: ShelfOption = None,
    where: Annotated[
        str | None, typer.Option(help="Only windows for which this is true, in SQL.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Use what spp index has made.")] = False,
    pictures: PicturesOption = None,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the windows that look like one.

    By cosine. The region is a window of the store, a box on one of its images, or an image file
    such as a crop. With --class they are those of the highest score of a class that spp new was
    taught, or else that the recipe has trained. All vectors are read, unless --fast is given: once,
    and again where the nearest windows are those of too few objects.

    Examples:
        spp similar digits:train train_00008 --box 6,108,29,143
        spp similar digits:train crop.png --top 4 --pictures hits.png
        spp similar digits:train --class seven
    """
    asked = ask(named, runs, data, set_).on(shelf)
    vectors = asked.vectors
    if class_ is None:
        wanted = _wanted(asked, vectors, image, box, window_)
        given, intercept = query(wanted.vector), 0.0
    else:
        _require_alone(image, box, window_, fast)
        wanted = class_
        given, intercept = folded_in(asked.classifier(class_))
    start = time.perf_counter()
    find, record = _find(asked, vectors, where, fast, "cosine" if class_ is None else "dot")
    measured = None if record is None else record.hits if fold else record.windows
    limit = folding.FOLDED_IOU if fold else None
    (hits,) = folding.similar(vectors, [given], top, find, limit)
    hits = replace(hits, scores=hits.scores + intercept)
    answer = _Answer(wanted, hits, len(vectors), time.perf_counter() - start, measured)
    if pictures is not None:
        _draw(asked, answer, pictures)
    if as_json:
        show.print_json(answer.as_json())
    else:
        answer.print()


def index(
    named: StoreArgument,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a compact copy of the vectors, to be faster.

    For `spp similar --fast`; tells what it loses. It lies in the store's own folder. Run again, it
    finishes what is missing.

    Examples:
        spp index digits:train
    """
    store, progress = ask(named, runs, data, set_).store, Progress(quiet=as_json)
    start = time.perf_counter()
    with progress.shown(), progress.bar("index", len(store.shards)) as bar:
        record = build(store, tell=lambda done, of: bar.advance())
    if as_json:
        show.print_json({**asdict(record), "seconds": time.perf_counter() - start})
        return
    show.say(f"{record.numbers} bytes a vector, {record.bytes:,} in all, in {store.root}/compact")
    for of, measured in (("windows", record.windows), ("hits", record.hits)):
        show.say(
            f"{of}: {_recall(measured)}, mean of {measured.queries} queries, {measured.least:.3f} "
            f"at worst; {measured.fast_s:.3f} s a query, {measured.exact_s:.3f} s without it"
        )


# --- what is looked for, and where ----------------------------------------------------------------


def _wanted(
    asked: Asked, vectors: Vectors, image: str | None, box: str | None, named: str | None
) -> Wanted:
    if (image is None) == (named is None) or (named is not None and box is not None):
        raise typer.BadParameter(
            "give an image, with or without --box, or --window IMAGE_ID/WINDOW_ID, or --class CLASS"
        )
    if image is not None:
        sides = None if box is None else _sides(box)
        return region(asked.store, vectors, image, sides, asked.network)
    assert named is not None
    image_id, _, number = named.rpartition("/")
    if not image_id or not number.isdecimal():
        raise typer.BadParameter(f"--window {named} is no IMAGE_ID/WINDOW_ID, such as 000005/12")
    return window(asked.store, vectors, image_id, int(number))


def _require_alone(image: str | None, box: str | None, named: str | None, fast: bool) -> None:
    """Refuse what does not go with --class."""
    if (image, box, named) != (None, None, None):
        raise typer.BadParameter("--class is what to look for: give no image, --box or --window")
    if fast:
        # Its recall is of windows' neighbours: nobody has measured what it loses of a class.
        raise typer.BadParameter("--class reads all vectors: leave out --fast")


def _sides(box: str) -> list[float]:
    try:
        x_min, y_min, x_max, y_max = (float(side) for side in box.split(","))
    except ValueError:
        raise typer.BadParameter(f"--box {box} is no x0,y0,x1,y1, such as 12,30,200,180") from None
    return [x_min, y_min, x_max, y_max]


def _find(
    asked: Asked, vectors: Vectors, where: str | None, fast: bool, metric: Metric
) -> tuple[folding.Find, Record | None]:
    """Return how rows are found, and the record of the compact copy where that is used."""
    among = None
    if where is not None:
        among = folding.rows_where(vectors, where, *asked.known_to(where))
    if not fast:
        return partial(nearest, vectors, metric=metric, among=among), None
    store = asked.store
    record = read_record(store)
    if record is None:
        raise InputError(
            f"{asked.name} has no compact copy of the vectors that it has now: "
            f"spp index {asked.name} makes one; or leave out --fast"
        )
    if vectors.far:
        show.say(
            f"{asked.name} is read over a network, a row group for each window that the first pass "
            "leaves: there --fast saves little",
            err=True,
        )
    copy = Compact(store, vectors, record.key)
    return partial(copy.nearest, metric=metric, among=among), record


# --- what is told ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    wanted: Wanted | str
    """A region, or a class."""
    hits: folding.Hits
    rows: int
    seconds: float
    measured: Recall | None
    """Of the compact copy, where that was used."""

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for programs."""
        if isinstance(self.wanted, str):
            wanted = {"class": self.wanted}
        else:
            wanted = {k: v for k, v in asdict(self.wanted).items() if k != "vector"}
        scores, rows = self.hits.scores.tolist(), self.hits.rows.tolist()
        windows = self.hits.windows.to_pylist()
        hits = [
            {"score": score, "row": row, **each}
            for score, row, each in zip(scores, rows, windows, strict=True)
        ]
        fast = None if self.measured is None else asdict(self.measured)
        told = {"windows": self.rows, "seconds": self.seconds, "fast": fast}
        told["passes"] = self.hits.passes
        return {"query": wanted, **told, "hits": hits}

    def print(self) -> None:
        """Print a table, and how it was found."""
        columns = ["score", "image_id", "window_id", *BOX_COLUMNS, "source"]
        scores = self.hits.scores.tolist()
        show.print_table(
            columns,
            (
                [f"{score:.4f}", *(_short(row[name]) for name in columns[1:])]
                for score, row in zip(scores, self.hits.windows.to_pylist(), strict=True)
            ),
        )
        if isinstance(self.wanted, str):
            ranked = f"highest scores of {shown(self.wanted)} among"
        else:
            ranked = "nearest of"
        if isinstance(self.wanted, Wanted) and self.wanted.instead_of:
            show.say(
                f"for {_text(self.wanted.instead_of)}, which no network is known for: the stored "
                f"window {_text(self.wanted.box)}, IoU {self.wanted.iou:.2f}"
            )
        exactly = "exact" if self.measured is None else _recall(self.measured)
        passes = f" and {self.hits.passes} passes" if self.hits.passes > 1 else ""
        told = f"{self.rows:,} windows in {self.seconds:.2f} s{passes}, {exactly}"
        show.say(f"{ranked} {told}")


def _recall(measured: Recall) -> str:
    return f"recall@{measured.at} {measured.recall:.4f} against exact"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(box: Sequence[float]) -> str:
    return ",".join(map(_short, box))


def _draw(asked: Asked, answer: _Answer, file: Path) -> None:
    """Draw the region that was looked for, if it is one, and the hits."""
    wanted, crops = answer.wanted, []
    if isinstance(wanted, Wanted):
        pixels = part(asked.file_of(wanted.image), wanted.box)
        crops.append(Crop(pixels, f"looked for: {wanted.image}", True))
    scores = answer.hits.scores.tolist()
    for score, row in zip(scores, answer.hits.windows.to_pylist(), strict=True):
        pixels = part(asked.file_of(row["image_id"]), [row[name] for name in BOX_COLUMNS])
        crops.append(Crop(pixels, f"{score:.3f}  {row['image_id']}/{row['window_id']}"))
    like = wanted if isinstance(wanted, str) else wanted.image
    title = f"{len(scores)} of {answer.rows:,} windows most like {like}"
    with written_aside(file) as aside:
        crop_sheet(crops, title).save(aside, format="PNG")
