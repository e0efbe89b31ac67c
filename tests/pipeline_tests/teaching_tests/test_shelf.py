"""Marks and versions on a shelf: any name, anyone at any time, whatever dies."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.learning.classifiers import Classifiers
from pipeline.store.place import Place, place
from pipeline.teaching import Mark, Shelf, key_of, newest, versions
from pipeline.teaching.shelf import created
from pipeline.teaching.versioning import require_newest, save
from tests.s3 import BUCKET

PROJECT = Path(__file__).parents[3]
BOX = (1.0, 2.0, 5.0, 7.0)
NAMES = ["..", "../../etc", "a/b\\c", "<script>'\"", "🦓 zebra", "x" * 10_000, "a\nb\0c", " a "]
MARKING = """
import sys
from pipeline.teaching import Mark, Shelf
shelf = Shelf(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    mark = Mark(sys.argv[3] + str(number), (0.0, 0.0, 1.0, 1.0))
    print(shelf.mark("zebra", [mark], source="page"), flush=True)
"""


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return place(tmp_path / "shelf")
    request.getfixturevalue("s3_server")
    return place(f"s3://{BUCKET}/{uuid.uuid4().hex}")


def classifier(value: float) -> Classifiers:
    weights = np.full((1, 3), value, np.float32)
    return Classifiers(("zebra",), weights, np.zeros(1, np.float32), 0.5)


def marking(root: Place, count: int, prefix: str) -> subprocess.Popen[str]:
    """A person in a process of their own, who begins at a line, and says what is kept by then."""
    return subprocess.Popen(
        [sys.executable, "-c", MARKING, str(root), str(count), prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def test_marks_are_kept_and_taken_back(root):
    shelf, other = Shelf(root), Shelf(root)
    first = shelf.mark("zebra", [Mark("a", BOX), Mark("b", BOX)], who="ann", why="stripes")
    second = other.mark("zebra", [Mark("a", BOX, yes=False)], source="page", who="bob")
    assert other.marks_of("zebra") == [Mark("b", BOX), Mark("a", BOX, yes=False)]
    told = [(each.name, each.who, each.why, each.source) for each in shelf.batches("zebra")]
    assert told == [(first, "ann", "stripes", "box"), (second, "bob", "", "page")]
    assert shelf.batches("zebra")[0].when.endswith("+00:00")
    with pytest.raises(InputError, match=r"no marks of 'zebra' by cy in .* of others there are 2"):
        shelf.withdraw("zebra", who="cy")
    (taken,) = shelf.withdraw("zebra", who="bob")
    assert (taken.name, taken.marks) == (second, (Mark("a", BOX, yes=False),))
    assert other.marks_of("zebra") == [Mark("a", BOX), Mark("b", BOX)]
    with pytest.raises(InputError, match=f"no batch of marks {second} that counts"):
        shelf.withdraw("zebra", [second])
    assert [each.name for each in shelf.withdraw("zebra", [first])] == [first]
    with pytest.raises(InputError, match=r"there are no marks of 'zebra' by .* to take back"):
        shelf.withdraw("zebra")
    # Nothing was overwritten.
    assert len(root.listing(f"{key_of('zebra')}/marks")) == 4


def test_labels_and_completeness_are_said_apart(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.mark("a", labelled=True, source="labels")
    shelf.mark("b", [Mark("x", BOX)])
    lesson = shelf.lesson("b")
    assert (lesson.labelled, lesson.complete) == (False, False)
    shelf.mark("b", complete=True, source="labels")
    assert (shelf.lesson("a").labelled, shelf.lesson("a").complete) == (True, True)
    assert (shelf.lesson("b").labelled, shelf.lesson("b").complete) == (False, True)
    shelf.mark("c", labelled=True, store="somewhere", images_digest="one")
    assert [shelf.lesson("c", store).complete for store in ("one", "two")] == [True, False]


def test_a_class_has_a_history(tmp_path):
    shelf = Shelf(tmp_path)
    first = shelf.mark("zebra", [Mark("a", BOX), Mark("b", BOX)], who="ann", why="stripes")
    second = shelf.mark("zebra", [Mark("a", BOX, yes=False)], source="page", who="bob")
    shelf.withdraw("zebra", who="bob")
    events = Shelf(tmp_path).history("zebra")
    assert [each.batch.name for each in events] == [first, second]
    assert [each.withdrawn and each.withdrawn.who for each in events] == [None, "bob"]
    assert events[1].withdrawn.when > events[1].batch.when
    shelf.mark("zebra", [Mark("b", BOX, yes=False)], who="cy")
    origins = shelf.origins("zebra")
    assert [(mark.image_id, mark.yes, batch.who) for mark, batch in origins.items()] == [
        ("a", True, "ann"),
        ("b", False, "cy"),
    ]
    assert shelf.history("okapi") == []


def test_a_window_is_one_box_however_it_is_printed(tmp_path):
    third, printed = float(np.float32(1 / 3)), float(f"{np.float32(1 / 3):.9g}")
    assert third != printed
    shelf = Shelf(tmp_path)
    shelf.mark("a", [Mark("x", (third, 0.0, 9.0, 9.0))])
    shelf.mark("a", [Mark("x", (printed, 0.0, 9.0, 9.0), yes=False)])
    assert shelf.marks_of("a") == [Mark("x", (third, 0.0, 9.0, 9.0), yes=False)]


def test_any_name_is_harmless(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    for number, name in enumerate(NAMES):
        shelf.mark(name, [Mark(f"image {number}", BOX)])
    shelf.begin("empty")
    assert shelf.classes() == sorted([*NAMES, "empty"])
    assert [len(shelf.marks_of(name)) for name in NAMES] == [1] * len(NAMES)
    assert shelf.marks_of("empty") == []
    assert {path.name for path in tmp_path.iterdir()} == {"shelf"}
    tops = {path.name for path in (tmp_path / "shelf").iterdir()}
    assert tops == {"classes", *map(key_of, NAMES)}


@pytest.mark.parametrize(("name", "reason"), [("", "blank"), (" \n", "blank"), ("\ud800", "text")])
def test_a_name_that_is_none_is_refused(tmp_path, name, reason):
    with pytest.raises(InputError, match=reason):
        Shelf(tmp_path).mark(name, [Mark("a", BOX)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "box", [(5, 2, 5, 7), (-1, 2, 5, 7), (1, 2, np.inf, 7), (1, np.nan, 5, 7), (3, 2, 1, 7)]
)
def test_a_box_that_is_none_is_refused(tmp_path, box):
    with pytest.raises(InputError, match="on image a is empty or begins outside"):
        Shelf(tmp_path).mark("zebra", [Mark("a", tuple(map(float, box)))])
    with pytest.raises(InputError, match="no mark of 'zebra' was given"):
        Shelf(tmp_path).mark("zebra", [])


def test_two_at_once_lose_nothing(tmp_path):
    root = place(tmp_path)
    people = [marking(root, 40, prefix) for prefix in "ab"]
    for person in people:
        assert person.stdin is not None
        assert person.stdout is not None
        assert person.stdout.readline() == "ready\n"
    for person in people:
        person.stdin.write("go\n")
        person.stdin.flush()
    said = [person.communicate(timeout=60)[0].split() for person in people]
    assert [len(names) for names in said] == [40, 40]
    expected = {f"{prefix}{number}" for prefix in "ab" for number in range(40)}
    assert {mark.image_id for mark in Shelf(root).marks_of("zebra")} == expected


def test_who_is_killed_loses_nothing_that_was_kept(tmp_path):
    root = place(tmp_path)
    person = marking(root, 100_000, "a")
    assert person.stdin is not None
    assert person.stdout is not None
    person.stdin.write("go\n")
    person.stdin.flush()
    assert person.stdout.readline() == "ready\n"
    said = [person.stdout.readline().strip() for _ in range(10)]
    person.send_signal(signal.SIGKILL)
    said += person.communicate(timeout=60)[0].split()
    kept = {each.name for each in Shelf(root).batches("zebra")}
    assert len(said) >= 10
    # The last line may have been cut off by the kill.
    assert {name for name in said if len(name) == len(said[0])} <= kept
    assert Shelf(root).unreadable("zebra") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"marks": [{"image_id": "a", "box": [1, 2, 3, 4], "yes": "no"}]},
        {"marks": [{"image_id": "a", "box": [1, 2, 3, 4], "yes": 1}]},
        {"marks": [{"image_id": 5, "box": [1, 2, 3, 4], "yes": True}]},
        {"marks": [{"image_id": "a", "box": ["1", 2, 3, 4], "yes": True}]},
        {"marks": [{"image_id": "a", "box": [1, 2, 3, True], "yes": True}]},
        {"marks": [{"image_id": "a", "box": [1, 2, float("nan"), 4], "yes": True}]},
        {"withdraws": "abc"}, {"withdraws": [5]}, {"class_": 5}, {"labelled": "yes"},
        {"complete": 1}, {"source": "hearsay"}, {"who": None}, {"unknown": 1},
    ],
)  # fmt: skip
def test_what_is_nearly_a_mark_is_none(tmp_path, change):
    shelf = Shelf(tmp_path)
    name = shelf.mark("zebra", [Mark("a", BOX)])
    path = tmp_path / key_of("zebra") / "marks" / f"{name}.json"
    whole = json.loads(path.read_text())
    assert len(Shelf(tmp_path).marks_of("zebra")) == 1
    path.write_text(json.dumps(whole | change))
    assert (Shelf(tmp_path).history("zebra"), Shelf(tmp_path).unreadable("zebra")) == ([], 1)


@pytest.mark.parametrize("data", [b"", b'{"marks": [', b"[]", b'{"marks": [{"image_id": "a"}]}'])
def test_a_torn_file_is_told_of_and_the_others_count(tmp_path, data):
    shelf = Shelf(tmp_path)
    shelf.mark("zebra", [Mark("a", BOX)])
    name = shelf.mark("zebra", [Mark("b", BOX)])
    assert len(shelf.marks_of("zebra")) == 2  # and remembers them
    place(tmp_path).replace(f"{key_of('zebra')}/marks/{name}.json", data)
    place(tmp_path).replace(f"{key_of('zebra')}/marks/{name}.json.tmp.1", b"left")
    fresh = Shelf(tmp_path)
    assert fresh.marks_of("zebra") == [Mark("a", BOX)]
    assert (fresh.unreadable("zebra"), shelf.unreadable("zebra")) == (1, 0)


def test_the_newest_whole_version_counts(root):
    shelf = Shelf(root)
    assert newest(shelf, "zebra") is None
    for value in (1.0, 2.0):
        save(shelf, "zebra", classifier(value), {"yes": int(value)})
    found = newest(shelf, "zebra")
    assert (found.number, found.told["yes"], found.classifiers.weights[0, 0]) == (2, 2, 2.0)
    assert [each.number for each in versions(shelf, "zebra")] == [2, 1]
    first = [each.root for each in versions(shelf, "zebra")][1]
    found.root.replace("classifiers.safetensors", first.read("classifiers.safetensors"))
    assert newest(shelf, "zebra").number == 1
    shelf.of_class("zebra").replace("versions/3.json", b'{"folder": "../..", "files": {}}')
    assert newest(shelf, "zebra").number == 1
    assert save(shelf, "zebra", classifier(4.0), {}).number == 4


def test_who_trains_at_the_same_time_gets_the_next_number(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)
    save(shelf, "zebra", classifier(1.0), {})
    monkeypatch.setattr("pipeline.teaching.versioning._numbers", lambda root: [])
    assert save(shelf, "zebra", classifier(2.0), {}).number == 2
    assert json.loads((tmp_path / key_of("zebra") / "versions/1.json").read_text())["told"] == {}


def test_a_file_is_created_once(root):
    created(root, "a/b.json", [1])
    created(root, "a/b.json", [1])  # our own, whose answer was lost
    with pytest.raises(InputError, match="is there and says something else"):
        created(root, "a/b.json", [2])
    assert root.read("a/b.json") == b"[\n 1\n]\n"


def test_a_class_without_a_version_is_refused(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.begin("okapi")
    with pytest.raises(InputError, match=r"no classifier of 'zebra'; its classes are 'okapi'"):
        require_newest(shelf, "zebra")
