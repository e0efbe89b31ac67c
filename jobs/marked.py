"""What people have said of a class: exported as a file, or told batch by batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from jobs import show
from pipeline.teaching import Event, Shelf
from pipeline.teaching import examples as read
from pipeline.teaching.marks import minute, shown

FILES = (".csv", ".json")


def require_exportable(file: Path) -> None:
    """Refuse a file of marks of another kind, before anything is kept."""
    if file.suffix not in FILES:
        raise typer.BadParameter(f"--marks {file}: give a file that ends in {' or '.join(FILES)}")


def export(shelf: Shelf, class_: str, file: Path, size: read.Size) -> None:
    """Write the marks that count, with who said so, when and why."""
    origins = shelf.origins(class_)
    if file.suffix == ".csv":
        read.to_csv(file, origins)
    else:
        read.to_coco(file, class_, origins, size)
    show.say(f"{len(origins):,} marks of {shown(class_)} in {file}", err=True)


def tell_history(shelf: Shelf, class_: str, as_json: bool) -> None:
    """Tell every batch, oldest first; also those that were taken back."""
    told = [_told(each) for each in shelf.history(class_)]
    if as_json:
        show.print_json(told)
        return
    columns = ["when", "who", "source", "yes", "no", "all known by", "why", "taken back"]
    show.print_table(columns, map(_row, told))
    counting = sum(each["withdrawn"] is None for each in told)
    unreadable = shelf.unreadable(class_)
    show.say(
        f"{counting} of {len(told)} batches of {shown(class_)} in {shelf.root} count"
        + (f"; {unreadable} more cannot be read" if unreadable else "")
    )


def _told(event: Event) -> dict[str, Any]:
    batch, by = event.batch, event.withdrawn
    yes = sum(mark.yes for mark in batch.marks)
    provenance = {name: getattr(batch, name) for name in read.PROVENANCE}
    return {
        **provenance,
        "yes": yes,
        "no": len(batch.marks) - yes,
        "labelled": batch.labelled,
        "complete": batch.complete,
        "store": batch.store,
        "withdrawn": None if by is None else {"who": by.who, "when": by.when},
    }


def _row(told: dict[str, Any]) -> Iterator[Any]:
    yield minute(told["when"])
    yield told["who"]
    yield told["source"]
    yield told["yes"]
    yield told["no"]
    yield "labels" if told["labelled"] else "marks" if told["complete"] else ""
    yield " ".join(told["why"].split())  # a row is a line
    by = told["withdrawn"]
    yield "" if by is None else f"{minute(by['when'])} by {by['who']}"
