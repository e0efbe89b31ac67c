"""Teaching a store a new class: `spp new`."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import show
from jobs.asked import Asked, ask
from jobs.options import (
    DataOption,
    JsonOption,
    PicturesOption,
    RunsOption,
    SetOption,
    StoreArgument,
)
from pipeline.report.crops import part
from pipeline.report.sheet import Crop, crop_sheet
from pipeline.store import Store
from pipeline.store.files import written_aside
from pipeline.store.schema import BOX_COLUMNS
from pipeline.teaching import Mark, Settings, Shelf, Taught, teach
from pipeline.teaching import examples as read
from pipeline.teaching.locating import require_teachable
from pipeline.teaching.ranking import Hit
from pipeline.teaching.shelf import Source, shown

ShelfOption = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE", help="Where marks and classifiers are kept; default: beside the store."
    ),
]
_NAMED = "IMAGE_ID/WINDOW_ID"
BoxesOption = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="IMAGE_ID:X0,Y0,X1,Y1", help="An example; may be repeated."),
]
WindowsOption = Annotated[
    list[str] | None,
    typer.Option("--window", metavar=_NAMED, help="A stored window that shows the class."),
]
NoOption = Annotated[
    list[str] | None,
    typer.Option("--no", metavar=_NAMED, help="A stored window that does not."),
]
WhereOption = Annotated[
    str | None, typer.Option(metavar="SQL", help="Windows for which this is true show the class.")
]
CsvOption = Annotated[
    Path | None,
    typer.Option(help="Table of image_id,x_min,y_min,x_max,y_max and maybe verdict (yes, no)."),
]
CocoOption = Annotated[Path | None, typer.Option(help="COCO file with a category of this name.")]
LabelledOption = Annotated[
    bool, typer.Option("--labelled", help="The store's own objects of this class.")
]
CompleteOption = Annotated[
    bool,
    typer.Option("--complete", help="With this the store has no other: the rest are negatives."),
]
UndoOption = Annotated[bool, typer.Option("--undo", help="Take your last marks back.")]
MarksOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write what is marked, as .csv or as COCO .json."),
]
WhyOption = Annotated[str, typer.Option(help="A remark, kept with the marks.")]
WhoOption = Annotated[str | None, typer.Option(help="Who says so; default: who is logged in.")]


def new(
    class_: Annotated[str, typer.Argument(metavar="CLASS", help="Its name: any text.")],
    named: StoreArgument,
    box: BoxesOption = None,
    window: WindowsOption = None,
    no: NoOption = None,
    where: WhereOption = None,
    csv: CsvOption = None,
    coco: CocoOption = None,
    labelled: LabelledOption = False,
    complete: CompleteOption = False,
    undo: UndoOption = False,
    marks: MarksOption = None,
    why: WhyOption = "",
    who: WhoOption = None,
    shelf: ShelfOption = None,
    top: Annotated[int, typer.Option(help="How many hits.", min=1)] = 12,
    pictures: PicturesOption = None,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a store a new class by examples, and find it in the whole store.

    Again with more examples it learns from all of them. Negatives are a sample of the store and
    what you say no to; only where all objects are known (--labelled, --complete) are hard ones
    mined from the whole store, for else they would be the very objects that nobody has marked.
    """
    asked = ask(named, runs, data, set_)
    held, known = Shelf(asked.shelf if shelf is None else shelf), _Images(asked.store)
    given = dict(_given(asked, class_, known.size, box, window, no, where, csv, coco))
    some = bool(given) or labelled or complete
    if undo and some:
        raise typer.BadParameter("--undo takes marks back: give none with it")
    if undo:
        held.withdraw(class_, who=who)
    for chosen in given.values():  # all of them before one is kept
        read.require_known(chosen, known.size, asked.store.root)
        require_teachable(asked.store, chosen, asked.network)
    for source, chosen in given.items():
        held.mark(class_, chosen, source=source, who=who, why=why)
    if labelled or complete:
        source = "labels"
        all_known = {"labelled": labelled, "complete": complete, "store": str(asked.store.root)}
        held.mark(class_, source=source, who=who, why=why, **all_known)
    if marks is not None:
        _export(held, class_, marks, known.size)
    if marks is not None and not some and not undo:
        return
    if undo and not held.batches(class_):
        typer.echo(f"{shown(class_)} has no marks any more; its classifiers stay as they are")
        return
    taught = teach(held, asked.store, class_, settings_of(asked), asked.network, top)
    answer = _Answer(class_, held, taught)
    if pictures is not None:
        _draw(asked, class_, taught, pictures)
    if as_json:
        show.print_json(answer.as_json())
    else:
        answer.print(named)


def _given(
    asked: Asked,
    class_: str,
    size: read.Size,
    box: Sequence[str] | None,
    window: Sequence[str] | None,
    no: Sequence[str] | None,
    where: str | None,
    csv: Path | None,
    coco: Path | None,
) -> Iterator[tuple[Source, list[Mark]]]:
    """Yield the marks of each kind of source that was named."""
    if box:
        yield "box", [read.from_text(each) for each in box]
    if window or no:
        yield (
            "window",
            [
                *read.from_windows(asked.store, window or (), True),
                *read.from_windows(asked.store, no or (), False),
            ],
        )
    if where is not None:
        yield "sql", read.from_sql(asked.store, where, *asked.known_to(where))
    if csv is not None:
        yield "csv", read.from_csv(csv)
    if coco is not None:
        yield "coco", read.from_coco(coco, class_, size)


def settings_of(asked: Asked) -> Settings:
    """Return the settings of the store's recipe, if that is known, or the defaults."""
    recipe = asked.recipe
    return Settings() if recipe is None else Settings(recipe.svm, recipe.mining, recipe.seed)


class _Images:
    """The sizes of a store's images, each asked for once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[int, int] | None] = {}

    def size(self, image_id: str) -> tuple[int, int] | None:
        """Return width and height; None: there is no such image."""
        if image_id not in self._known:
            row = self._store.image(image_id)
            self._known[image_id] = None if row is None else (row["width"], row["height"])
        return self._known[image_id]


def _export(shelf: Shelf, class_: str, file: Path, size: read.Size) -> None:
    held = shelf.marks_of(class_)
    if file.suffix == ".csv":
        read.to_csv(file, held)
    elif file.suffix == ".json":
        read.to_coco(file, class_, held, size)
    else:
        raise typer.BadParameter(f"--marks {file}: give a file that ends in .csv or .json")
    typer.echo(f"{len(held):,} marks of {shown(class_)} in {file}", err=True)


@dataclass(frozen=True)
class _Answer:
    class_: str
    shelf: Shelf
    taught: Taught

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for programs."""
        version, taught = self.taught.version, self.taught
        instead = [
            {"image_id": each.mark.image_id, "box": each.mark.box, "iou": each.iou}
            for each in taught.nearest
        ]
        told = {"class": self.class_, "version": version.number, "shelf": str(self.shelf.root)}
        return {**told, **version.told, "steps_s": dict(taught.seconds), "instead": instead}

    def print(self, named: str) -> None:
        """Print what was learnt from what, how long it took, and what was found."""
        told, ranking = self.taught.version.told, self.taught.ranking
        for each in self.taught.nearest:
            box = ",".join(f"{corner:g}" for corner in each.mark.box)
            typer.echo(
                f"for {each.mark.image_id}:{box}, which is no stored window, the nearest one: IoU "
                f"{each.iou:.2f}"
            )
        for title, hits in (("best", ranking.top), ("least sure", ranking.borderline)):
            typer.echo(f"{title}, in images that are not marked yet:")
            show.print_table(["score", "window", *BOX_COLUMNS], map(_row, hits))
        judged = told["judged"]
        if judged is None:
            typer.echo("no AP: for cross-validation two images have to show the class")
        else:
            typer.echo(
                f"AP {judged['ap']:.3f} in {judged['folds']}-fold cross-validation over "
                f"{judged['images']:,} images with marks"
                + (" and without" if told["complete"] else "")
            )
        steps = ", ".join(f"{name} {took:.1f}" for name, took in self.taught.seconds.items())
        hard = "with hard negatives of the whole store" if told["complete"] else "sampled"
        typer.echo(
            f"{shown(self.class_)}, version {self.taught.version.number}: {told['positives']:,} "
            f"positives, {told['negatives']:,} negatives {hard}, {ranking.windows:,} windows "
            f"scored, {ranking.above:,} above 0, in {told['seconds']:.1f} s ({steps})"
        )
        if left_out := told["left_out"]:
            typer.echo(
                f"{left_out} marks are on images of other stores and have no vector yet: train on "
                "those stores once",
                err=True,
            )
        if unreadable := self.shelf.unreadable(self.class_):
            typer.echo(f"{unreadable} files of marks in {self.shelf.root} cannot be read", err=True)
        typer.echo(f"next: spp detect {shlex.quote(named)} --class {shlex.quote(self.class_)}")


def _row(hit: Hit) -> Iterable[str]:
    yield f"{hit.score:.3f}"
    yield f"{hit.image_id}/{hit.window_id}"
    yield from (f"{corner:g}" for corner in hit.box)


def _draw(asked: Asked, class_: str, taught: Taught, file: Path) -> None:
    """Draw the best hits, and then those that are least sure."""
    crops: list[Crop] = []
    for hits, word in ((taught.ranking.top, ""), (taught.ranking.borderline, "? ")):
        for hit in hits:
            pixels = part(asked.file_of(hit.image_id), hit.box)
            crops.append(Crop(pixels, f"{word}{hit.score:.2f}  {hit.image_id}"))
    title = f"{class_}: best of {taught.ranking.windows:,} windows, and with ? the least sure"
    with written_aside(file) as aside:
        crop_sheet(crops, title).save(aside, format="PNG")
