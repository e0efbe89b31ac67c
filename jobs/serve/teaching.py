"""Teaching classes from the page: marks as they are clicked, and training in the background."""

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs.asked import Asked
from jobs.new import settings_of
from jobs.serve.looking import box_text
from jobs.serve.searching import Hit
from pipeline.errors import InputError, SppError
from pipeline.store import Store
from pipeline.teaching import Mark, Shelf, Taught, key_of, newest, teach, versions
from pipeline.teaching.examples import require_known, to_coco, to_csv
from pipeline.teaching.locating import require_teachable
from pipeline.teaching.ranking import best_in

MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
CURVE_PX = 200
VERSIONS_SHOWN, HITS_SHOWN, MARKS_SHOWN, FOUND_IN_IMAGE = 8, 24, 200, 6
NOBODY = "somebody"  # who gave no name; whoever else gave none may take their marks back


@dataclass(frozen=True)
class Class:
    """A class as lists name it."""

    key: str
    name: str


@dataclass
class Training:
    """A training at work, or how it ended."""

    state: str = "running"
    text: str = ""
    again: bool = False
    """Somebody has asked for it meanwhile."""
    begun_s: float = field(default_factory=time.monotonic)


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
    told: str
    unreadable: int
    """Batches of marks that cannot be read."""


class Teaching:
    """Marks and trainings of one shelf. Safe in threads, and beside other servers of the shelf."""

    def __init__(self, asked: Asked) -> None:
        self._asked, self._shelf = asked, Shelf(asked.shelf)
        self._trainings: dict[str, Training] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # of trainings, each of which takes all CPUs

    @property
    def _store(self) -> Store:
        return self._asked.store

    # --- classes and their marks ------------------------------------------------------------------

    def classes(self) -> list[Class]:
        """Return all classes, by name."""
        return [Class(key_of(name), name) for name in self._shelf.classes()]

    def begin(self, name: str) -> str:
        """Begin a class, or go on with the one of that name; return its key."""
        self._shelf.begin(name.strip())
        return key_of(name.strip())

    def _name(self, key: str) -> str:
        for each in self.classes():
            if each.key == key:
                return each.name
        raise InputError(f"there is no class {key!r}: choose another, or begin one")

    def verdicts(self, key: str) -> Mapping[tuple[str, str], str]:
        """Return yes or no by image and box, as pages name them; nothing where no class is."""
        known = {each.key: each.name for each in self.classes()}
        marks = self._shelf.marks_of(known[key]) if key in known else []
        return {(mark.image_id, box_text(mark.box)): _verdict(mark) for mark in marks}

    def mark(
        self, key: str, image_id: str, box: Any, yes: bool, who: str, why: str
    ) -> dict[str, Any]:
        """Keep a person's word about a box; return how many there are.

        Raises:
            InputError: no such class or image, or the box has no vector.
        """
        name, mark = self._name(key), Mark(image_id, _corners(box), yes)
        require_known([mark], self._size, self._store.root)
        require_teachable(self._store, [mark], self._asked.network)
        self._shelf.mark(name, [mark], source="page", who=who or NOBODY, why=why)
        return self._counts(name)

    def undo(self, key: str, who: str) -> dict[str, Any]:
        """Withdraw the last word of a person, and nobody else's.

        Raises:
            InputError: there is none.
        """
        name = self._name(key)
        before = {each.name: each.marks for each in self._shelf.batches(name)}
        names = self._shelf.withdraw(name, who=who or NOBODY)
        marks = (mark for each in names for mark in before[each])
        taken = [[mark.image_id, box_text(mark.box)] for mark in marks]
        return {**self._counts(name), "taken": taken}

    def _counts(self, name: str) -> dict[str, Any]:
        marks = self._shelf.marks_of(name)
        yes = sum(mark.yes for mark in marks)
        return {"yes": yes, "no": len(marks) - yes}

    def _size(self, image_id: str) -> tuple[int, int] | None:
        row = self._store.image(image_id)
        return None if row is None else (row["width"], row["height"])

    def export(self, key: str, kind: str) -> tuple[bytes, str]:
        """Return the marks of a class as a file's bytes, and their media type."""
        name = self._name(key)
        if kind not in MEDIA:
            raise InputError(f"marks are exported as {' or '.join(MEDIA)}, not as {kind}")
        marks = self._shelf.origins(name)
        with TemporaryDirectory(prefix="spp-") as aside:
            file = Path(aside) / "marks"
            if kind == "csv":
                to_csv(file, marks)
            else:
                to_coco(file, name, marks, self._size)
            return file.read_bytes(), MEDIA[kind]

    def found_in(self, key: str, image_id: str) -> list[Hit]:
        """Return what the newest classifier of a class finds in one image; nothing without one."""
        known = {each.key: each.name for each in self.classes()}
        last = newest(self._shelf, known[key]) if key in known else None
        if last is None or self._store.shard_of(image_id) is None:
            return []
        if not self._asked.fits(last.classifiers):
            return []
        best = best_in(self._store, self._asked.vectors, last.classifiers, image_id, FOUND_IN_IMAGE)
        return [Hit(hit.image_id, list(hit.box), hit.score, "found") for hit in best]

    # --- training ---------------------------------------------------------------------------------

    def train(self, key: str) -> dict[str, str]:
        """Begin to train on the marks there are, unless the class is in training."""
        name = self._name(key)
        with self._lock:
            held = self._trainings.get(key)
            if held is not None and held.state == "running":
                held.again = True  # it may have begun before the last mark
            else:
                held = self._trainings[key] = Training()
                threading.Thread(target=self._train, args=(name, held), daemon=True).start()
        return {"state": held.state}

    def _train(self, name: str, held: Training) -> None:
        try:
            while True:
                held.again = False
                with self._turn:
                    taught = self._teach(name)
                with self._lock:
                    if not held.again:
                        held.text, held.state = f"version {taught.version.number}", "done"
                        return
        except SppError as error:
            held.text, held.state = str(error), "failed"
        except BaseException as error:
            held.text, held.state = f"{type(error).__name__}: {error}", "failed"
            raise

    def _teach(self, name: str) -> Taught:
        settings, network = settings_of(self._asked), self._asked.network
        return teach(self._shelf, self._store, name, settings, network, HITS_SHOWN)

    def progress(self, key: str) -> dict[str, str]:
        """Return how far a training is, for people and for the script."""
        with self._lock:
            held = self._trainings.get(key)
        if held is None:
            return {"state": "none", "text": "nothing is in training"}
        if held.state != "running":
            return {"state": held.state, "text": held.text}
        return {"state": "running", "text": f"training, {time.monotonic() - held.begun_s:.0f} s"}

    # --- the page of a class ----------------------------------------------------------------------

    def page(self, key: str) -> ClassPage:
        """Return what the page of a class shows.

        Raises:
            InputError: there is no such class.
        """
        name = self._name(key)
        last = newest(self._shelf, name)
        told = {} if last is None else last.told
        return ClassPage(
            key,
            name,
            **self._counts(name),
            versions=[_trained(each.number, each.told) for each in self._last(name)],
            groups=[
                ("Best, in images without a mark", self._hits(told, "top")),
                ("Least sure", self._hits(told, "borderline")),
                ("Marked", self._marked(name)),
            ],
            told=_told(told, self._asked.store_digest),
            unreadable=self._shelf.unreadable(name),
        )

    def _hits(self, told: Mapping[str, Any], kind: str) -> list[Hit]:
        """Return what a version found, if it was in this store."""
        if told.get("store_digest") != self._asked.store_digest:
            return []
        return [
            Hit(each["image_id"], list(each["box"]), each["score"], kind) for each in told[kind]
        ]

    def _marked(self, name: str) -> list[Hit]:
        """Return the last marks, newest first, on images of this store."""
        marks = [Hit(mark.image_id, list(mark.box), None) for mark in self._shelf.marks_of(name)]
        here = (each for each in reversed(marks) if self._store.shard_of(each.image_id) is not None)
        return list(islice(here, MARKS_SHOWN))

    def _last(self, name: str) -> Iterator[Any]:
        return islice(versions(self._shelf, name), VERSIONS_SHOWN)


def _corners(box: Any) -> tuple[float, float, float, float]:
    try:
        x_min, y_min, x_max, y_max = (float(corner) for corner in box)
    except (TypeError, ValueError):
        raise InputError(f"the box {box!r} is not [x_min, y_min, x_max, y_max]") from None
    return x_min, y_min, x_max, y_max


def _verdict(mark: Mark) -> str:
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
