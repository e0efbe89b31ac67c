"""Teaching classes from the page: marks as they are clicked, and training in the background."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jobs.asked import Asked
from jobs.new import settings_of
from jobs.serve.class_page import HITS_SHOWN, ClassPage, class_page, verdict
from jobs.serve.looking import box_text
from jobs.serve.searching import Hit
from jobs.serve.training import Trainings
from pipeline.errors import InputError
from pipeline.store import Store
from pipeline.teaching import Mark, Shelf, key_of, teach
from pipeline.teaching.examples import require_known, to_coco, to_csv
from pipeline.teaching.locating import require_teachable
from pipeline.teaching.ranking import best_in
from pipeline.teaching.versioning import newest_on

MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
FOUND_IN_IMAGE = 6
MOST_OF_A_CLASS = 200  # characters of a name, which is on every page
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Class:
    """A class as lists name it."""

    key: str
    name: str


class Teaching:
    """Marks and trainings of one shelf. Safe in threads, and beside other servers of the shelf."""

    def __init__(self, asked: Asked) -> None:
        self._asked, self._shelf = asked, Shelf(asked.shelf)
        self._trainings = Trainings(self._teach)

    @property
    def _store(self) -> Store:
        return self._asked.store

    # --- classes and their marks ------------------------------------------------------------------

    def classes(self) -> list[Class]:
        """Return all classes, by name."""
        return [Class(key_of(name), name) for name in self._shelf.classes()]

    def begin(self, name: str) -> str:
        """Begin a class, or go on with the one of that name; return its key.

        Raises:
            InputError: the name is blank, or too long.
        """
        name = name.strip()
        if len(name) > MOST_OF_A_CLASS:
            raise InputError(
                f"the class's name has {len(name):,} characters: give at most {MOST_OF_A_CLASS}"
            )
        self._shelf.begin(name)
        return key_of(name)

    def _name(self, key: str) -> str:
        for each in self.classes():
            if each.key == key:
                return each.name
        raise InputError(f"there is no class {key!r}: choose another, or begin one")

    def verdicts(self, key: str) -> Mapping[tuple[str, str], str]:
        """Return yes or no by image and box, as pages name them; nothing where no class is."""
        known = {each.key: each.name for each in self.classes()}
        marks = self._shelf.marks_of(known[key]) if key in known else []
        return {(mark.image_id, box_text(mark.box)): verdict(mark) for mark in marks}

    def mark(
        self, key: str, image_id: str, box: Any, yes: bool, who: str, why: str
    ) -> dict[str, Any]:
        """Keep a person's word about a box; return how many there are.

        Raises:
            InputError: no such class or image, or the box has no vector.
        """
        name, mark = self._name(key), Mark(image_id, _corners(box), yes)
        require_known([mark], self._size, self._asked.name)
        require_teachable(self._store, [mark], self._asked.network)
        self._shelf.mark(name, [mark], source="page", who=who, why=why)
        return self._counts(name)

    def undo(self, key: str, who: str) -> dict[str, Any]:
        """Withdraw the last word of a person, and nobody else's; return what counts then.

        Raises:
            InputError: there is none.
        """
        name = self._name(key)
        marks = [mark for each in self._shelf.withdraw(name, who=who) for mark in each.marks]
        left = {(mark.image_id, mark.box): verdict(mark) for mark in self._shelf.marks_of(name)}
        taken = [
            [mark.image_id, mark.box, left.get((mark.image_id, mark.box), "")] for mark in marks
        ]
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
        last = newest_on(self._shelf, known[key], self._store) if key in known else None
        if last is None or self._store.shard_of(image_id) is None:
            return []
        best = best_in(self._store, self._asked.vectors, last.classifiers, image_id, FOUND_IN_IMAGE)
        return [Hit(hit.image_id, list(hit.box), hit.score, "found") for hit in best]

    # --- training ---------------------------------------------------------------------------------

    def train(self, key: str) -> dict[str, str]:
        """Begin to train on the marks there are, unless the class is in training."""
        return self._trainings.begin(key, self._name(key))

    def progress(self, key: str) -> dict[str, str]:
        """Return how far a training is, for people and for the script."""
        return self._trainings.progress(key)

    def _teach(self, name: str) -> int:
        settings, network = settings_of(self._asked), self._asked.network
        taught = teach(self._shelf, self._store, name, settings, network, HITS_SHOWN)
        return taught.version.number

    def page(self, key: str, start: int) -> ClassPage:
        """Return what the page of a class shows; `start`: of the list of who said what.

        Raises:
            InputError: there is no such class.
        """
        digest = self._asked.store_digest
        return class_page(self._shelf, self._store, digest, self._name(key), start)


def _corners(box: Any) -> tuple[float, float, float, float]:
    try:
        x_min, y_min, x_max, y_max = (float(corner) for corner in box)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"the box {box!r} is not [x_min, y_min, x_max, y_max]") from None
    if not all(abs(each) <= LARGEST for each in (x_min, y_min, x_max, y_max)):  # nor what is nan
        raise InputError(f"the box {box!r} has a corner that is no float32")
    return x_min, y_min, x_max, y_max
