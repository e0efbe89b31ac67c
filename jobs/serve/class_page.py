"""What the page of a class shows: how good it is, what it finds, and who has said what."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jobs.serve.searching import Hit
from pipeline.store import Store
from pipeline.teaching import Batch, Mark, Shelf, key_of, newest, versions
from pipeline.teaching.marks import minute
from pipeline.teaching.versioning import newest_on

CURVE_PX = 200
VERSIONS_SHOWN, HITS_SHOWN, MARKS_SHOWN, SAID_A_PAGE = 8, 24, 200, 100


@dataclass(frozen=True)
class Trained:
    """A line of the table of versions."""

    number: int
    yes: int
    no: int
    ap: float | None
    seconds: float
    curve: str
    """Precision over recall, as a path in a square of `CURVE_PX`."""


@dataclass(frozen=True)
class Said:
    """What somebody said: of a box, or, without a mark, that all objects of a store are known."""

    batch: Batch
    mark: Mark | None
    here: bool
    """The image is of this store, and can be looked at."""

    @property
    def when(self) -> str:
        """UTC, to the minute."""
        return minute(self.batch.when)


@dataclass(frozen=True)
class SaidPage:
    """Some of what was said, newest first."""

    rows: Sequence[Said]
    start: int
    size: int
    count: int
    """How much there is in all."""


@dataclass(frozen=True)
class ClassPage:
    """What the page of a class shows."""

    key: str
    name: str
    yes: int
    no: int
    versions: Sequence[Trained]
    """Newest first."""
    groups: Sequence[tuple[str, Sequence[Hit]]]
    """Windows to look at, under their titles."""
    said: SaidPage
    told: str
    unreadable: int
    """Batches of marks that cannot be read."""


def class_page(shelf: Shelf, store: Store, digest: str, name: str, start: int) -> ClassPage:
    """Return what the page of a class shows.

    Args:
        shelf: has the class.
        store: that the page is of.
        digest: the store's.
        name: of the class.
        start: of the list of who said what.
    """
    last = newest_on(shelf, name, store) or newest(shelf, name)
    marks = shelf.marks_of(name)
    told = {} if last is None else last.told
    yes = sum(mark.yes for mark in marks)
    return ClassPage(
        key_of(name),
        name,
        yes,
        len(marks) - yes,
        versions=[
            _trained(each.number, each.told)
            for each in islice(versions(shelf, name), VERSIONS_SHOWN)
        ],
        groups=[
            ("Best, in images without a mark", _hits(told, "top", digest)),
            ("Least sure", _hits(told, "borderline", digest)),
            ("Marked", _marked(marks, store)),
        ],
        said=_said(shelf.batches(name), store, start),
        told=_told(told, digest),
        unreadable=shelf.unreadable(name),
    )


def _hits(told: Mapping[str, Any], kind: str, digest: str) -> list[Hit]:
    """Return what a version found, if it was in this store."""
    if told.get("store_digest") != digest:
        return []
    return [Hit(each["image_id"], list(each["box"]), each["score"], kind) for each in told[kind]]


def _marked(marks: Sequence[Mark], store: Store) -> list[Hit]:
    """Return the last marks, newest first, on images of this store."""
    here = (mark for mark in reversed(marks) if store.shard_of(mark.image_id) is not None)
    return [Hit(mark.image_id, list(mark.box), None) for mark in islice(here, MARKS_SHOWN)]


def _said(batches: Sequence[Batch], store: Store, start: int) -> SaidPage:
    lines = list(_counting(batches))
    rows = [
        Said(batch, mark, mark is not None and store.shard_of(mark.image_id) is not None)
        for batch, mark in lines[start : start + SAID_A_PAGE]
    ]
    return SaidPage(rows, start, SAID_A_PAGE, len(lines))


def _counting(batches: Sequence[Batch]) -> Iterator[tuple[Batch, Mark | None]]:
    """Yield what counts, newest first: of two marks of the same box the later."""
    seen = set()
    for batch in reversed(batches):
        if batch.labelled or batch.complete:
            yield batch, None
        for mark in reversed(batch.marks):
            if (mark.image_id, mark.box) not in seen:
                yield batch, mark
            seen.add((mark.image_id, mark.box))


def verdict(mark: Mark) -> str:
    """Return a mark's verdict in a word."""
    return "yes" if mark.yes else "no"


def _told(told: Mapping[str, Any], here: str) -> str:
    """Say what the newest version was made from and what it found."""
    if not told:
        return "not trained yet"
    if told.get("store_digest") != here:
        return f"version trained on {told['store']}: retrain to see what it finds here"
    found = f"{told['above']:,} of {told['windows']:,} windows score above 0"
    return f"{told['positives']:,} positives, {told['negatives']:,} negatives; {found}"


def _trained(number: int, told: Mapping[str, Any]) -> Trained:
    judged = told.get("judged")
    curve = "" if judged is None else _path(judged["recall"], judged["precision"])
    return Trained(number, told["yes"], told["no"], told.get("ap"), told["seconds"], curve)


def _path(recall: Sequence[float], precision: Sequence[float]) -> str:
    """Return a curve as an SVG path, the origin of which is above the left end of the axis."""
    points = [
        f"{CURVE_PX * x:.1f} {CURVE_PX * (1 - y):.1f}"
        for x, y in zip(recall, precision, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    return "M" + "L".join(points) if points else ""
