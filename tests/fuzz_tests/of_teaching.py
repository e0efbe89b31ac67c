"""What people have marked, others' detections, and compact copies of vectors."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import store
from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections
from pipeline.evaluation.devkit import read_devkit
from pipeline.search.compact import FOLDER, Compact, read_record
from pipeline.search.compacting import build
from pipeline.store import Vectors
from pipeline.store.blocks import query
from pipeline.store.place import place
from pipeline.teaching import Mark, Shelf, key_of
from tests import small_store
from tests.fuzz_tests.target import Target, working_folder

CLASS = "cat"
ROWS = 12


def mark_seeds() -> Iterator[bytes]:
    """Yield batches of marks as a shelf keeps them."""
    with working_folder() as folder:
        shelf = Shelf(folder)
        marks = [Mark("a", (1.0, 2.0, 3.5, 4.0)), Mark("b", (0.0, 0.0, 9.0, 9.0), yes=False)]
        first = shelf.mark(CLASS, marks, labelled=True, why="it purrs")
        shelf.withdraw(CLASS, [first])
        for path in sorted((folder / key_of(CLASS) / "marks").glob("*.json")):
            yield path.read_bytes()
            yield path.read_bytes().replace(b"3.5", b"NaN")
            yield path.read_bytes().replace(b"true", b'"yes"')
            yield path.read_bytes().replace(b'"cat"', b"5")


def read_marks(data: bytes, folder: Path) -> None:
    """A batch counts, or is counted among those that cannot be read; marks have boxes."""
    path = folder / key_of(CLASS) / "marks" / "20261130T000000.000000Z-0123456789ab.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    shelf = Shelf(folder)
    history, lesson = shelf.history(CLASS), shelf.lesson(CLASS)
    for mark in lesson.marks:
        assert isinstance(mark.image_id, str)
        assert isinstance(mark.yes, bool)
        assert np.isfinite(mark.box).all()
    for event in history:
        assert isinstance(event.batch.class_, str)
        assert isinstance(event.batch.labelled, bool)
        assert isinstance(event.batch.complete, bool)
    if shelf.unreadable(CLASS):
        raise InputError("the batch cannot be read, and that is counted")


OBJECTS: dict[str, list[Any]] = {
    "image_id": ["000004", "000006"],
    "class": ["cat", "cat"],
    **{"x_min": [88.0, 300.0], "y_min": [111.0, 150.0], "x_max": [516.0, 488.0]},
    **{"y_max": [466.0, 230.0], "difficult": [False, False]},
}


def devkit_seeds() -> Iterator[bytes]:
    """Yield result files of the devkit."""
    yield b"000004 0.702732 89 112 516 466\n000006 -1e-3 373.5 168.25 488.125 229\n"
    yield b"\n2008_000001 nan 1 1 inf 2\r\n"
    yield b"a 1 2 3 4\n"


def read_results(data: bytes, folder: Path) -> None:
    """What is taken can be judged, or is refused then."""
    (folder / "comp4_det_test_cat.txt").write_bytes(data)
    found = read_devkit(folder)
    images = {*OBJECTS["image_id"], *found["image_id"].to_pylist()}
    judged = evaluate_detections(found, OBJECTS, classes=["cat"], image_ids=images)
    assert 0 <= judged.mean_ap <= 1


@cache
def files_of_copy() -> dict[str, bytes]:
    """Return the files of a small store's compact copy, by their names in the store."""
    with working_folder() as folder:
        small_store.make(place(folder))
        build(store.open(folder))
        found = (path for path in sorted((folder / FOLDER).iterdir()) if path.is_file())
        return {f"{FOLDER}/{path.name}": path.read_bytes() for path in found}


def copy_seeds() -> Iterator[bytes]:
    """Yield each file of a compact copy behind its number."""
    for number, data in enumerate(files_of_copy().values()):
        yield bytes([number]) + data


def search_copy(data: bytes, folder: Path) -> None:
    """Rows that are found are some of the store's, with scores that are theirs."""
    root, files = folder / "store", files_of_copy()
    if not root.exists():
        small_store.make(place(root))
    (root / FOLDER).mkdir(exist_ok=True)
    for name, whole in files.items():
        (root / name).write_bytes(whole)
    names = list(files)
    if data:
        (root / names[data[0] % len(names)]).write_bytes(data[1:])
    held = store.open(root)
    vectors, record = Vectors(held), read_record(held)
    if record is None:
        raise InputError("the copy is none, and is made again")
    wanted = np.linspace(-1, 1, vectors.spec.length, dtype=np.float32)
    (found,) = Compact(held, vectors, record.key).nearest([query(wanted)], 3)
    assert len(set(found.rows.tolist())) == len(found.rows) <= 3
    assert ((found.rows >= 0) & (found.rows < ROWS)).all()
    exact = vectors.take(found.rows).astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(found.scores, exact @ wanted / np.linalg.norm(wanted), atol=1e-4)


TARGETS = (
    Target("marks", mark_seeds, read_marks, (b"NaN", b"withdraws", b"null", b"1e999", b"[[")),
    Target("devkit", devkit_seeds, read_results, (b"nan", b"inf", b"1e999", b"\0", b"\n\n")),
    Target("compact", copy_seeds, search_copy, (b"ARROW1", b"NaN", b"data_offsets", b"F32")),
)
