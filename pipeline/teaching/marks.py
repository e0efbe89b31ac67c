"""What people say about windows: marks, the batches they come in, and what counts of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Literal, get_args

import numpy as np

from pipeline.errors import InputError
from pipeline.store.records import from_json

Source = Literal["box", "window", "sql", "csv", "coco", "page", "labels"]


@dataclass(frozen=True)
class Mark:
    """One box on one image, and whether it shows the class."""

    image_id: str
    box: tuple[float, float, float, float]
    """A SPEC §1 box, pixels; rounded to float32, as windows are stored."""
    yes: bool = True

    def __post_init__(self) -> None:
        # However it was typed or printed, a window is one box.
        object.__setattr__(self, "box", tuple(np.asarray(self.box, np.float32).tolist()))


@dataclass(frozen=True)
class Batch:
    """What one person said at once."""

    class_: str
    marks: tuple[Mark, ...] = ()
    labelled: bool = False
    """The store's own objects of this class count, too, and are all there are."""
    complete: bool = False
    """What is marked by now is all there is of the class in the store."""
    store: str = ""
    """Of which that is said, for people."""
    images_digest: str = ""
    """Of its images and labels, of which that is said (`pipeline.store.identity`); none: of any."""
    withdraws: tuple[str, ...] = ()
    """Names of batches that do not count any longer."""
    source: Source = "box"
    who: str = ""
    when: str = ""
    """UTC, ISO 8601."""
    why: str = ""
    name: str = ""
    """Its place in the order, and of its file."""


@dataclass(frozen=True)
class Lesson:
    """All that counts of a class by now."""

    marks: tuple[Mark, ...]
    labelled: bool
    complete: bool
    """Every object of the class in the store is known."""


@dataclass(frozen=True)
class Event:
    """A batch of marks in a class's history."""

    batch: Batch
    withdrawn: Batch | None = None
    """That took it back; None: it counts."""


def latest(batches: Iterable[Batch]) -> dict[Mark, Batch]:
    """Return the marks of batches, oldest first, and whence; of two of the same box the later."""
    last: dict[Mark, tuple[Mark, Batch]] = {}
    for batch in batches:
        for mark in batch.marks:
            last.pop(plain(mark), None)
            last[plain(mark)] = mark, batch
    return dict(last.values())


def plain(mark: Mark) -> Mark:
    """Return a mark as the vectors of boxes are kept by: as a yes."""
    return Mark(mark.image_id, mark.box)


def minute(when: str) -> str:
    """Return a batch's time to the minute, UTC.

    >>> minute("2026-11-29T20:15:59.123456+00:00")
    '2026-11-29 20:15'
    """
    return when[:16].replace("T", " ")


def is_name(class_: str) -> bool:
    """Return whether a class can be called so."""
    try:
        key_of(class_)
    except InputError:
        return False
    return True


def key_of(class_: str) -> str:
    """Return the name of a class's files.

    >>> key_of("zebra"), key_of("../<b>") != key_of("..")
    ('676cb75018edccf1', True)
    """
    if not class_.strip():
        raise InputError("a class needs a name that is not blank")
    try:
        return sha256(class_.encode()).hexdigest()[:16]
    except UnicodeEncodeError as error:
        raise InputError(f"the class's name is no text: {error}") from None


def shown(class_: str) -> str:
    """Return a class's name for a sentence: in one line, and not for ever."""
    said = repr(class_)
    return said if len(said) < 60 else f"{said[:56]}…'"


def require_box(image_id: str, box: Sequence[float]) -> None:
    """Check that a box is one.

    Raises:
        InputError: it has no area, or a corner is not finite or negative.
    """
    x_min, y_min, x_max, y_max = box
    if not (0 <= x_min < x_max < float("inf") and 0 <= y_min < y_max < float("inf")):
        raise InputError(
            f"the box {list(box)} on image {image_id} is empty or begins outside of it: give "
            "x_min,y_min,x_max,y_max"
        )


def parse_batch(name: str, data: bytes | None) -> Batch | None:
    """Return a batch as it was kept; None where the file is torn, or no batch."""
    held = from_json(data)
    try:
        marks = tuple(map(_mark, held.pop("marks")))
        if type(listed := held.pop("withdraws")) is not list:
            return None
        withdraws = tuple(listed)
        batch = Batch(**held | {"marks": marks, "withdraws": withdraws, "name": name[:-5]})
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError, InputError):
        return None
    known = all(type(getattr(batch, each)) is kind for each, kind in _KINDS.items())
    named = all(type(each) is str for each in withdraws)
    return batch if known and named and batch.source in get_args(Source) else None


_KINDS = {field.name: type(field.default) for field in fields(Batch)} | {"class_": str}


def _mark(held: Any) -> Mark:
    """Return a mark as it was kept; nothing stands for anything else, such as "no" for a no."""
    if type(held["yes"]) is not bool or type(held["image_id"]) is not str:
        raise TypeError("no mark")
    mark = Mark(held["image_id"], _box(held["box"]), held["yes"])
    require_box(mark.image_id, mark.box)
    return mark


def _box(corners: Any) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = corners
    if not all(type(each) in (int, float) for each in (x_min, y_min, x_max, y_max)):
        raise TypeError("corners are numbers")
    return float(x_min), float(y_min), float(x_max), float(y_max)
