"""A shelf: what people said about windows of a store, and the classifiers that came of it.

| file | |
|---|---|
| `classes/<key>.json` | a class by its name; the key is a digest of it: any name is harmless |
| `<key>/marks/<time>-<random>.json` | one batch of marks, or the withdrawal of earlier ones |
| `<key>/versions/<number>.json` | one classifier: in which folder, and of what it was trained |
| `<key>/versions/<random>/` | its files, vectors of boxes that no store holds, detections |

Nothing is overwritten, and each file is created whole or not at all: two people lose nothing by
each other, and who was told that a mark is kept will find it, whatever dies. Undo is a later batch
that withdraws an earlier one.
"""

import getpass
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import InputError
from pipeline.store.place import Place, place
from pipeline.store.records import from_json, to_json

CLASSES, MARKS = "classes", "marks"
Source = Literal["box", "window", "sql", "csv", "coco", "page", "labels"]
SOURCES: tuple[Source, ...] = ("box", "window", "sql", "csv", "coco", "page", "labels")


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
    """Of which that is said; none: of any."""
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


class Shelf:
    """Marks and classifiers in a folder or an object store. Safe in threads and processes."""

    def __init__(self, where: str | Path | Place) -> None:
        self.root = place(where)
        self._read: dict[str, Batch] = {}  # a batch never changes
        self._lock = threading.Lock()

    def classes(self) -> list[str]:
        """Return the names of all classes, sorted."""
        names = [f"{CLASSES}/{each}" for each in self.root.listing(CLASSES) if _is_ours(each)]
        held = (from_json(data) for data in self.root.each(self.root.read, names))
        return sorted(each["class"] for each in held if isinstance(each, dict) and "class" in each)

    def of_class(self, class_: str) -> Place:
        """Return where a class has its files.

        Raises:
            InputError: the name is empty, or no text.
        """
        return self.root / key_of(class_)

    def begin(self, class_: str) -> None:
        """Make a class known, without any mark yet."""
        created(self.root, f"{CLASSES}/{key_of(class_)}.json", {"class": class_})

    def mark(
        self,
        class_: str,
        marks: Iterable[Mark] = (),
        *,
        source: Source = "box",
        labelled: bool = False,
        complete: bool = False,
        store: str = "",
        who: str | None = None,
        why: str = "",
    ) -> str:
        """Keep a batch of marks, and return its name once it is on the disk.

        Args:
            class_: any text that is not blank.
            marks: what was said; a later mark of the same box counts instead of an earlier one.
            source: where the marks come from.
            labelled: also the store's own objects of this class, which are all there are.
            complete: what is marked by now is all there is in the store.
            store: which one; `labelled` and `complete` count for no other.
            who: default: who is logged in.
            why: in the person's own words.

        Raises:
            InputError: a box is none, or there is nothing to keep.
        """
        known = tuple(marks)
        for each in known:
            require_box(each.image_id, each.box)
        if not known and not labelled and not complete:
            raise InputError(f"no mark of {shown(class_)} was given: name a box, or its labels")
        who = who or _person()
        given = Batch(class_, known, labelled, complete, store, source=source, who=who, why=why)
        return self._keep(given)

    def withdraw(
        self, class_: str, names: Sequence[str] | None = None, *, who: str | None = None
    ) -> Sequence[Batch]:
        """Take back batches, and return them.

        Args:
            class_: of which.
            names: of batches; default: the last one of this person that counts.
            who: default: who is logged in.

        Raises:
            InputError: there is none, or it counts no longer.
        """
        who, held = who or _person(), self.batches(class_)
        counting = {each.name: each for each in held}
        own = [each.name for each in held if each.who == who]
        if names is None and not own:
            raise InputError(
                f"there are no marks of {shown(class_)} by {who} in {self.root} to take back; of "
                f"others there are {len(counting)}"
            )
        chosen = own[-1:] if names is None else names
        if unknown := [name for name in chosen if name not in counting]:
            raise InputError(f"{shown(class_)} has no batch of marks {unknown[0]} that counts")
        self._keep(Batch(class_, withdraws=tuple(chosen), who=who))
        return [counting[name] for name in chosen]

    def batches(self, class_: str) -> list[Batch]:
        """Return the batches that count, oldest first."""
        found = [each for each in self._all(class_) if each is not None]
        gone = {name for each in found for name in each.withdraws}
        return [each for each in found if each.name not in gone and not each.withdraws]

    def unreadable(self, class_: str) -> int:
        """Return how many batches are there and cannot be read: a disk has failed."""
        return sum(each is None for each in self._all(class_))

    def marks_of(self, class_: str) -> list[Mark]:
        """Return the marks that count; of two of the same box the later."""
        return _latest(self.batches(class_))

    def lesson(self, class_: str, store: str = "") -> Lesson:
        """Return all that counts of a class in a store."""
        held = self.batches(class_)
        here = [each for each in held if each.store in ("", store)]
        labelled = any(each.labelled for each in here)
        complete = labelled or any(each.complete for each in here)
        return Lesson(tuple(_latest(held)), labelled, complete)

    def _all(self, class_: str) -> list[Batch | None]:
        root = self.of_class(class_)
        names = [each for each in root.listing(MARKS) if _is_ours(each)]
        with self._lock:
            missing = [name for name in names if f"{root}/{name}" not in self._read]
        read = root.each(lambda name: _batch(name, root.read(f"{MARKS}/{name}")), missing)
        fresh = {f"{root}/{name}": each for name, each in zip(missing, read, strict=True)}
        with self._lock:
            self._read |= {name: each for name, each in fresh.items() if each is not None}
            return [self._read.get(f"{root}/{name}") for name in names]

    def _keep(self, batch: Batch) -> str:
        root, now = self.of_class(batch.class_), datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:12]}"
        content = asdict(batch) | {"name": name, "when": now.isoformat()}
        self.begin(batch.class_)
        created(root, f"{MARKS}/{name}.json", content)
        return name


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


def created(root: Place, name: str, content: Any) -> None:
    """Create a JSON file, or find that it was there before.

    Raises:
        InputError: another one of this name is there.
    """
    data = to_json(content)
    # Told False, our own request may have arrived and its answer not.
    if not root.create(name, data) and root.read(name) != data:
        raise InputError(f"{root}/{name} is there and says something else: choose another shelf")


def _latest(batches: Iterable[Batch]) -> list[Mark]:
    """Return the marks of batches, oldest first; of two of the same box the later."""
    last: dict[tuple[str, tuple[float, ...]], Mark] = {}
    for mark in (mark for each in batches for mark in each.marks):
        last.pop((mark.image_id, mark.box), None)
        last[mark.image_id, mark.box] = mark
    return list(last.values())


def _is_ours(name: str) -> bool:
    return name.endswith(".json")  # beside them may lie what a killed writer left


def _batch(name: str, data: bytes | None) -> Batch | None:
    """Return a batch as it was kept; None where the file is torn, or no batch."""
    held = from_json(data)
    try:
        marks = tuple(
            Mark(str(each["image_id"]), _box(each["box"]), bool(each["yes"]))
            for each in held.pop("marks")
        )
        withdraws = tuple(map(str, held.pop("withdraws")))
        return Batch(**held | {"marks": marks, "withdraws": withdraws, "name": name[:-5]})
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _box(corners: Sequence[float]) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = map(float, corners)
    return x_min, y_min, x_max, y_max


def _person() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
