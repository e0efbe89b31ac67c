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
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.store.place import Place, place
from pipeline.store.records import from_json, to_json
from pipeline.teaching.marks import (
    Batch,
    Event,
    Lesson,
    Mark,
    Source,
    is_name,
    key_of,
    latest,
    parse_batch,
    require_box,
    shown,
)

CLASSES, MARKS = "classes", "marks"


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
        named = (each.get("class") for each in held if isinstance(each, dict))
        return sorted(name for name in named if isinstance(name, str) and is_name(name))

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
        images_digest: str = "",
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
            store: which one, for people.
            images_digest: of its images and labels; `labelled` and `complete` count for no others.
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
        of = (class_, known, labelled, complete, store, images_digest)
        return self._keep(Batch(*of, source=source, who=who, why=why))

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
        return [each.batch for each in self.history(class_) if each.withdrawn is None]

    def history(self, class_: str) -> list[Event]:
        """Return all batches of marks that can be read, oldest first."""
        found = [each for each in self._all(class_) if each is not None]
        by = {name: each for each in reversed(found) for name in each.withdraws}
        return [Event(each, by.get(each.name)) for each in found if not each.withdraws]

    def unreadable(self, class_: str) -> int:
        """Return how many batches are there and cannot be read: a disk has failed."""
        return sum(each is None for each in self._all(class_))

    def marks_of(self, class_: str) -> list[Mark]:
        """Return the marks that count; of two of the same box the later."""
        return list(self.origins(class_))

    def origins(self, class_: str) -> dict[Mark, Batch]:
        """Return the marks that count, and of each in which batch it came."""
        return latest(self.batches(class_))

    def lesson(self, class_: str, images_digest: str = "") -> Lesson:
        """Return all that counts of a class in a store of such images."""
        held = self.batches(class_)
        here = [each for each in held if each.images_digest in ("", images_digest)]
        labelled = any(each.labelled for each in here)
        complete = labelled or any(each.complete for each in here)
        return Lesson(tuple(latest(held)), labelled, complete)

    def _all(self, class_: str) -> list[Batch | None]:
        root = self.of_class(class_)
        names = [each for each in root.listing(MARKS) if _is_ours(each)]
        with self._lock:
            missing = [name for name in names if f"{root}/{name}" not in self._read]
        read = root.each(lambda name: parse_batch(name, root.read(f"{MARKS}/{name}")), missing)
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


def created(root: Place, name: str, content: Any) -> None:
    """Create a JSON file, or find that it was there before.

    Raises:
        InputError: another one of this name is there.
    """
    data = to_json(content)
    # Told False, our own request may have arrived and its answer not.
    if not root.create(name, data) and root.read(name) != data:
        raise InputError(f"{root}/{name} is there and says something else: choose another shelf")


def _is_ours(name: str) -> bool:
    return name.endswith(".json")  # beside them may lie what a killed writer left


def _person() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
