"""Two runs laid beside each other, object by object: what the one found better than the other."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections
from pipeline.evaluation.answers import Answers
from pipeline.report.page import differences, per_object, thumbnails

CLASSES = ["cat", "dog"]
PIXELS = np.zeros((100, 100, 3), np.uint8)
OBJECTS = pa.Table.from_pylist(
    [
        {"image_id": image, "class": kind, "difficult": hard, "x_min": x, "y_min": 0.0,
         "x_max": x + 20.0, "y_max": 20.0}
        for image, kind, hard, x in (
            ("a", "cat", False, 0.0), ("a", "cat", False, 40.0), ("b", "cat", False, 0.0),
            ("b", "cat", True, 60.0), ("b", "dog", False, 0.0),
        )
    ]
)  # fmt: skip


def detections(*held):
    names = ("image_id", "class", "score", "x_min", "y_min", "x_max", "y_max")
    kinds = (pa.string(), pa.string(), pa.float32(), *[pa.float32()] * 4)
    rows = [dict(zip(names, (*each, 0.0, each[3] + 20, 20.0), strict=True)) for each in held]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(zip(names, kinds, strict=True))))


def told_of(found, objects=OBJECTS):
    matches = evaluate_detections(found, objects, image_ids=["a", "b"]).matches
    return per_object.of_detections(found, objects, matches)


GOOD = detections(("a", "cat", 0.9, 1.0), ("a", "cat", 0.8, 42.0), ("b", "dog", 0.9, 0.0))
BAD = detections(("b", "dog", 0.9, 0.0), ("a", "cat", 0.9, 75.0), ("b", "cat", 0.5, 3.0))


def changes(first, other, load=lambda _: PIXELS, number=1):
    found, looked = differences.between(first, other, CLASSES, number), []
    told = found.drawn(load, lambda: looked.append(1))
    assert len(looked) == len(found.image_ids)
    return told


def between(*given, **options):
    """By class, in their order."""
    return sorted(changes(*given, **options).classes, key=lambda each: CLASSES.index(each.name))


def test_each_object_that_counts_has_a_row():
    rows = told_of(GOOD).to_pylist()
    assert [(each["class"], each["value"], each["told"]) for each in rows] == [
        ("cat", 1.0, "100"), ("cat", 1.0, "100"), ("cat", 0.0, "missed"), ("dog", 1.0, "100"),
    ]  # fmt: skip
    assert (rows[1]["box"], rows[1]["found"]) == ([40, 0, 60, 20], [42, 0, 62, 20])
    assert rows[2]["found"] is None
    assert [each["told"] for each in told_of(BAD).to_pylist()] == ["missed", "missed", "50", "100"]
    assert {each["told"] for each in told_of(detections()).to_pylist()} == {"missed"}


def test_what_got_better_and_worse_is_counted_and_shown():
    cat, dog = between(told_of(BAD), told_of(GOOD), number=2)
    assert (cat.name, cat.better, cat.worse, cat.of) == ("cat", 2, 1, 3)
    assert (dog.name, dog.better, dog.worse, dog.of, dog.strips) == ("dog", 0, 0, 1, ())
    better, worse = cat.strips
    assert (better.title, better.count, worse.title, worse.count) == ("Better", 2, "Worse", 1)
    assert [each.caption for each in better.thumbnails] == ["missed → 100"] * 2
    assert [box.kind for box in better.thumbnails[0].boxes] == ["object", "run2"]
    (lost,) = worse.thumbnails
    assert (lost.caption, lost.image_id) == ("50 → missed", "b")
    assert [box.kind for box in lost.boxes] == ["object", "run0"]


def test_equal_runs_differ_nowhere():
    for each in between(told_of(GOOD), told_of(GOOD)):
        assert (each.better, each.worse, each.strips) == (0, 0, ())


def test_what_only_one_was_asked_for_is_not_compared():
    few = OBJECTS.slice(1, 1)
    found = told_of(detections(("a", "cat", 0.9, 40.0)), few)
    cat, dog = between(told_of(BAD), found)
    assert (cat.better, cat.worse, cat.of, dog.of) == (1, 0, 1, 0)
    assert changes(told_of(BAD), found).unpaired == 3
    assert changes(told_of(BAD), told_of(GOOD)).unpaired == 0
    twice = pa.concat_tables([few, few])  # the same box, labelled twice
    one = told_of(detections(("a", "cat", 0.9, 40.0)), twice)
    assert [each.of for each in between(one, one)] == [2, 0]
    thrice = told_of(detections(), pa.concat_tables([few, few, few]))
    assert [each.of for each in between(one, thrice)] == [2, 0]  # each once
    assert changes(one, thrice).unpaired == 1


def test_the_farthest_apart_comes_first_and_no_more_than_fit():
    def rows(values):
        held = [(f"i{k}", "cat", [0.0, 0.0, 9.0, 9.0], v, None, str(v)) for k, v in values]
        names = per_object.SCHEMA.names
        plain = [dict(zip(names, each, strict=True)) for each in held]
        return pa.Table.from_pylist(plain, schema=per_object.SCHEMA)

    before = rows(enumerate([0.5] * 20))
    cat, _ = between(before, rows(enumerate(0.5 + 0.02 * k for k in range(20))))
    assert (cat.better, cat.worse) == (17, 0)  # 0.06 and more
    (strip,) = cat.strips
    assert [each.image_id for each in strip.thumbnails] == [
        "i19",
        "i18",
        "i17",
        "i16",
        "i15",
        "i14",
    ]


def test_of_many_classes_those_that_differ_most_have_pictures(monkeypatch):
    monkeypatch.setattr(differences, "MOST_CLASSES", 1)
    worse = detections(("a", "cat", 0.9, 0.0))  # one of three cats less, the only dog missed
    cat, dog = between(told_of(GOOD), told_of(worse))
    assert (cat.worse, dog.worse, len(cat.strips), len(dog.strips)) == (1, 1, 0, 1)
    # Those with pictures come first.
    assert [each.name for each in changes(told_of(GOOD), told_of(worse)).classes] == ["dog", "cat"]


def test_an_image_that_is_gone_is_left_out():
    def load(image_id):
        if image_id == "a":
            raise FileNotFoundError
        return PIXELS

    cat, _ = between(told_of(BAD), told_of(GOOD), load)
    assert [strip.title for strip in cat.strips] == ["Worse"]
    assert (cat.better, changes(told_of(BAD), told_of(GOOD), load).unopened) == (2, 1)


def answers(*held):
    """Rows of image, what it shows, and its scores for cat and dog."""
    labels = np.array([[1 if name in shown else -1 for name in CLASSES] for _, shown, _ in held])
    scores = np.array([scores for _, _, scores in held], float)
    return Answers([name for name, _, _ in held], labels.astype(np.int8), scores)


def test_of_splits_the_share_of_right_answers_counts():
    first = answers(("a", "cat", (1, 0)), ("b", "dog", (1, 0)))
    second = answers(("a", "cat", (0, 1)), ("c", "cat", (1, 0)))
    told = per_object.of_answers([first, second], CLASSES, single=True).to_pylist()
    assert [(each["image_id"], each["class"], each["value"], each["told"]) for each in told] == [
        ("a", "cat", 0.5, "50 % right, dog"), ("b", "dog", 0.0, "cat"), ("c", "cat", 1.0, "right"),
    ]  # fmt: skip
    assert told[0]["box"] is None


def test_where_images_show_several_each_has_its_precision():
    held = answers(("a", "cat dog", (3, 0)), ("b", "dog", (2, 1)), ("c", "cat", (1, 3)))
    told = per_object.of_answers([held], CLASSES, single=False).to_pylist()
    assert [(each["image_id"], each["class"], round(each["value"], 3)) for each in told] == [
        ("a", "cat", 1.0), ("a", "dog", 0.667), ("b", "dog", 0.667), ("c", "cat", 0.667),
    ]  # fmt: skip


def test_whole_images_are_shown_whole():
    first = per_object.of_answers([answers(("a", "cat", (0, 1)))], CLASSES, single=True)
    other = per_object.of_answers([answers(("a", "cat", (1, 0)))], CLASSES, single=True)
    cat, _ = between(first, other)
    (shown,) = cat.strips[0].thumbnails
    assert (shown.caption, shown.boxes, shown.height) == ("dog → right", (), thumbnails.HEIGHT_PX)


@pytest.mark.parametrize("spoil", [None, b"", b"PAR1PAR1", "other"])
def test_what_is_kept_comes_back_or_is_named(spoil, tmp_path):
    folder = tmp_path / "layer=fc7"  # no column of it
    per_object.keep(told_of(GOOD), folder)
    assert per_object.read(folder).equals(told_of(GOOD))
    file = folder / per_object.FILE
    file.unlink()
    if spoil == "other":
        pa.parquet.write_table(pa.table({"a": [1]}), file)
    elif spoil is not None:
        file.write_bytes(spoil)
    with pytest.raises(
        InputError, match=r"per_object.parquet cannot be read .*run the recipe again"
    ):
        per_object.read(folder)
