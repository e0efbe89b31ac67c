"""The classifiers of a class on a shelf, one version after another; none is ever changed."""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.learning import classifiers as saved
from pipeline.learning.classifiers import (
    DESCRIPTION,
    WEIGHTS,
    Classifiers,
    require_same_vectors,
)
from pipeline.store.place import Place
from pipeline.store.reader import Store
from pipeline.store.records import from_json, to_json
from pipeline.teaching.marks import shown
from pipeline.teaching.shelf import Shelf

VERSIONS = "versions"


@dataclass(frozen=True)
class Version:
    """One trained classifier of one class."""

    number: int
    root: Place
    """Where its files are."""
    classifiers: Classifiers
    told: Mapping[str, Any]
    """Of what it was trained, how long that took, and what it reaches."""


def save(
    shelf: Shelf, class_: str, known: Classifiers, told: Mapping[str, Any], folder: str = ""
) -> Version:
    """Keep a classifier as the newest version.

    Args:
        shelf: takes it.
        class_: its class.
        known: the classifier.
        told: what else is to be known of it; goes into JSON.
        folder: from `new_folder`, if files were put there before; else one is made.

    Raises:
        InputError: the shelf cannot be written to.
    """
    root = shelf.of_class(class_)
    folder = folder or new_folder()
    with tempfile.TemporaryDirectory() as aside:
        known.save(Path(aside))
        files = {name: (Path(aside) / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    for name, data in files.items():
        root.replace(f"{VERSIONS}/{folder}/{name}", data)
    digests = {name: sha256(data).hexdigest() for name, data in files.items()}
    content = {"folder": folder, "files": digests, "told": dict(told)}
    number = max(_numbers(root), default=0) + 1
    data = to_json(content)
    while not root.create(_record(number), data):
        if root.read(_record(number)) == data:
            break  # it was ours, and the answer was lost
        number += 1  # somebody else trained at the same time
    return Version(number, root / VERSIONS / folder, known, from_json(data)["told"])


def new_folder() -> str:
    """Return the name of a folder for a version's files that nobody else writes to."""
    return uuid.uuid4().hex[:12]


def newest(shelf: Shelf, class_: str) -> Version | None:
    """Return the newest version whose files are whole, or None where there is none."""
    return next(versions(shelf, class_), None)


def newest_on(shelf: Shelf, class_: str, store: Store) -> Version | None:
    """Return the newest version that was trained on such vectors as a store has.

    Of the others no weights are read.
    """
    return next(_versions(shelf, class_, partial(_was_trained_on, store)), None)


def versions(shelf: Shelf, class_: str) -> Iterator[Version]:
    """Yield the versions whose files are whole, newest first."""
    return _versions(shelf, class_, lambda root, held: True)


def _versions(shelf: Shelf, class_: str, wanted: Callable[[Place, Any], bool]) -> Iterator[Version]:
    root = shelf.of_class(class_)
    for number in sorted(_numbers(root), reverse=True):
        held = from_json(root.read(_record(number)))
        if wanted(root, held) and (found := _read(root, number, held)) is not None:
            yield found


def _was_trained_on(store: Store, root: Place, held: Any) -> bool:
    """Return whether a version, by what lies beside its weights, fits the vectors of a store."""
    try:
        told = from_json(root.read(f"{VERSIONS}/{Path(held['folder']).name}/{DESCRIPTION}"))
        require_same_vectors("classifiers", told["made_from"], store.made_from, store.root)
    except (InputError, TypeError, KeyError, AttributeError):
        return False
    return True


def require_newest(shelf: Shelf, class_: str) -> Version:
    """Return the newest version.

    Raises:
        InputError: there is none; names the classes that have one.
    """
    found = newest(shelf, class_)
    if found is None:
        known = ", ".join(map(shown, shelf.classes())) or "none"
        raise InputError(
            f"{shelf.root} has no classifier of {shown(class_)}; its classes are {known}: "
            "teach it with spp new"
        )
    return found


def require_newest_on(shelf: Shelf, class_: str, store: Store) -> Version:
    """Return the newest version that was trained on such vectors as a store has.

    Raises:
        InputError: there is none; tells what the newest one was trained on.
    """
    found = newest_on(shelf, class_, store)
    if found is None:
        found = require_newest(shelf, class_)
        found.classifiers.check_fits(store.made_from, store.root)
    return found


def _numbers(root: Place) -> list[int]:
    names = [name[: -len(".json")] for name in root.listing(VERSIONS) if name.endswith(".json")]
    return [int(name) for name in names if name.isdecimal()]


def _record(number: int) -> str:
    return f"{VERSIONS}/{number}.json"


def _read(root: Place, number: int, held: Any) -> Version | None:
    """Return a version, or None where a file of it is absent or other than it was written."""
    try:
        folder, told, digests = held["folder"], held["told"], dict(held["files"])
        if Path(folder).name != folder or digests.keys() != {WEIGHTS, DESCRIPTION}:
            return None
    except (TypeError, KeyError, ValueError):
        return None
    with tempfile.TemporaryDirectory() as aside:
        for name, digest in digests.items():
            data = root.read(f"{VERSIONS}/{folder}/{name}")
            if data is None or sha256(data).hexdigest() != digest:
                return None
            (Path(aside) / name).write_bytes(data)
        try:
            known = saved.load(Path(aside))
        except InputError:
            return None
    return Version(number, root / VERSIONS / folder, known, told)
