"""Teaching a store a new class: `spp new`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from jobs import learnt, marked, show
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
from pipeline.store import Store
from pipeline.store.identity import images_digest
from pipeline.teaching import Mark, Settings, Shelf, teach
from pipeline.teaching import examples as read
from pipeline.teaching.locating import require_teachable
from pipeline.teaching.marks import Source, shown

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
HistoryOption = Annotated[
    bool, typer.Option("--history", help="Tell who has said what, when and why.")
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
    history: HistoryOption = False,
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
    """Teach a store a new class by examples.

    And find it in the whole store. Again with more examples it learns from all of them. Negatives
    are a sample of the store and what you say no to; only where all objects are known (--labelled,
    --complete) are hard ones mined from the whole store, for else they would be the very objects
    that nobody has marked.

    Examples:
        spp new stroke digits:train --box train_00008:6,108,29,143
        spp new stroke digits:train --window train_00105/102 --no train_00102/30
        spp new stroke digits:train --marks stroke.json   # who said what, when and why
    """
    if marks is not None:
        marked.require_exportable(marks)
    asked = ask(named, runs, data, set_).on(shelf)
    held, known = Shelf(asked.shelf), _Images(asked.store)
    given = dict(_given(asked, class_, known.size, box, window, no, where, csv, coco))
    some = bool(given) or labelled or complete
    if some + undo + history > 1:
        raise typer.BadParameter("--undo and --history each go alone: give no marks with them")
    if undo:
        held.withdraw(class_, who=who)
    _keep(held, asked, class_, given, known.size, (labelled, complete), who, why)
    if marks is not None:
        marked.export(held, class_, marks, known.size)
    if history:
        marked.tell_history(held, class_, as_json)
    if (history or marks is not None) and not some and not undo:
        return
    if undo and not held.batches(class_):
        show.say(f"{shown(class_)} has no marks any more; its classifiers stay as they are")
        return
    taught = teach(held, asked.store, class_, settings_of(asked), asked.network, top)
    answer = learnt.Answer(class_, held, taught)
    if pictures is not None:
        learnt.draw(asked, class_, taught, pictures)
    if as_json:
        show.print_json(answer.as_json())
    else:
        answer.print()
        show.say(f"next: {learnt.next_command(named, class_, shelf, runs, data, set_)}")


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


def _keep(
    shelf: Shelf,
    asked: Asked,
    class_: str,
    given: Mapping[Source, Sequence[Mark]],
    size: read.Size,
    all_known: tuple[bool, bool],
    who: str | None,
    why: str,
) -> None:
    """Keep what was said on the shelf; all of it, or nothing where some cannot be learnt.

    Args:
        shelf: takes it.
        asked: the store.
        class_: name of the class.
        given: marks by their source.
        size: of images.
        all_known: whether by the store's labels, and whether by marks, all objects are known.
        who: says so.
        why: in their words.
    """
    for chosen in given.values():  # all of them before one is kept
        read.require_known(chosen, size, asked.name)
        require_teachable(asked.store, chosen, asked.network)
    for source, chosen in given.items():
        shelf.mark(class_, chosen, source=source, who=who, why=why)
    labelled, complete = all_known
    if labelled or complete:
        shelf.mark(
            class_,
            source="labels",
            labelled=labelled,
            complete=complete,
            store=str(asked.store.root),
            images_digest=images_digest(asked.store),
            who=who,
            why=why,
        )


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
