"""The page about a run: what it shows, that it shows it rightly, and that it fetches nothing."""

import math
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections
from pipeline.images import UndecodableImage
from pipeline.report import page
from pipeline.report.page import charts, galleries, kept, results, thumbnails

HOSTILE = "<script>alert(1)</script>\"'&"


RECALL, PRECISION = np.array([0.25, 0.25, 0.5, 0.75]), np.array([1, 0.5, 2 / 3, 0.75])


def result(name: str = "cat", ap: float = 0.5, objects: int = 4) -> page.ClassResult:
    """Three of four objects found, one wrong between."""
    return page.ClassResult(
        name, ap, charts.curve_corners(RECALL, PRECISION), 4, objects, 3, {"true": 3}, {}, 0
    )


def run(name: str = "mine", **changes: Any) -> page.RunPage:
    stages = {"network": 1.0, "write": 1.0}
    job = page.JobTime("train", (), ((0.0, 2.0),), 2.0, "classes 1", stages=stages)
    whole = page.RunPage(
        name=name,
        task="detection",
        figures=[page.Figure("50.0", "mean AP", "in percent")],
        measure="AP in percent.",
        classes=[result()],
        mean_ap=0.5,
        charts=[page.Chart("Loss", "steps", (page.Line("held out", ((1.0, 2.0), (5.0, 0.5))),))],
        jobs=[job, page.JobTime("mine", ("train",), ((2.0, 3.0),), 3.0, "rounds 1")],
        galleries={},
        recipe={"": {"name": '"mine"'}, "svm": {"C": "0.001"}},
        made_with=[("torch", "2.13.0")],
    )
    return replace(whole, **changes)


class Reader(HTMLParser):
    """Tags with their attributes, those that are open, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "image"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_is_whole_and_fetches_nothing() -> None:
    html = page.render([run(quarantined=[("test", "a", "truncated")])])
    seen = Reader(html)
    assert seen.open == []
    assert {"link", "script", "iframe", "img"}.isdisjoint(tag for tag, _ in seen.tags)
    for _, attributes in seen.tags:
        for name in ("src", "href", "xlink:href", "action"):
            assert re.match("#|data:image/jpeg|$", attributes.get(name) or ""), attributes
    assert not re.search(r"url\(|@import|https?://(?!www.w3.org)", html)
    assert "default-src 'none'" in html
    for told in ("50.0", "mean AP", "Loss", "classes 1", "0.001", "2.13.0", "truncated"):
        assert told in seen.text
    places = {attributes.get("id") for _, attributes in seen.tags}
    asked = {attributes["href"] for tag, attributes in seen.tags if tag == "a"}
    assert {f"#{place}" for place in places} >= asked


def test_what_comes_from_outside_is_no_markup() -> None:
    job = page.JobTime(HOSTILE, (), ((0.0, 1.0),), 1.0, HOSTILE, stages={HOSTILE: 1.0})
    thumbnail = page.Thumbnail(
        "eA==", 9, 9, (page.Box((0.0, 0.0, 1.0, 1.0), "true"),), HOSTILE, HOSTILE
    )
    hostile = run(
        HOSTILE,
        figures=[page.Figure(HOSTILE, HOSTILE, HOSTILE)],
        measure=HOSTILE,
        classes=[result(HOSTILE)],
        charts=[page.Chart(HOSTILE, HOSTILE, (page.Line(HOSTILE, ((0.0, 1.0), (1.0, 1.0))),) * 2)],
        jobs=[job],
        galleries={HOSTILE: [page.Strip(HOSTILE, (thumbnail,), 5)]},
        recipe={HOSTILE: {HOSTILE: HOSTILE}},
        made_with=[(HOSTILE, HOSTILE)],
        quarantined=[(HOSTILE, HOSTILE, HOSTILE)],
        reference={HOSTILE: 0.3},
        reference_name=HOSTILE,
    )
    for runs in ([hostile], [hostile, replace(hostile, recipe={HOSTILE: {HOSTILE: "other"}})]):
        seen = Reader(page.render(runs))
        assert "script" not in {tag for tag, _ in seen.tags}
        assert seen.text.count("<script>alert(1)</script>") >= 15
        for _, attributes in seen.tags:
            assert not any(name.startswith("on") for name in attributes)


def test_runs_beside_each_other_show_what_differs() -> None:
    other = run("theirs", recipe={"": {"name": '"theirs"'}, "svm": {"C": "1"}})
    other = replace(other, classes=[result(ap=0.75)])
    seen = Reader(page.render([run(), other]))
    # At once: who compares asks this first.
    assert re.search(
        r"What differs\s+1 field of the recipe\s.*svm\.C\s.*Classes", seen.text, re.DOTALL
    )
    assert re.search(r"50\.0\s*75\.0\s*\+25\.0", seen.text)
    hardly = replace(other, classes=[result(ap=0.4996)])
    assert "-0.0" not in Reader(page.render([run(), hardly])).text
    lacking = replace(other, classes=[result(ap=math.nan)], mean_ap=math.nan)
    assert re.search(r"50\.0\s*–\s*–", Reader(page.render([run(), lacking])).text)
    same = Reader(page.render([run(), run()]))
    assert "The recipes are the same." in same.text


def test_where_runs_differ_is_told_class_by_class() -> None:
    drawn = page.Thumbnail("eA==", 9, 9, (page.Box((0.0, 0.0, 1.0, 1.0), "run1"),), "5 → 95", "a")
    change = page.Change("cat", 3, 1, 4, -1.54, (page.Strip("Better", (drawn,), 3),))
    html = page.render([run(), run("theirs", changes=page.Changes((change,), 7, 8))])
    told = " ".join(Reader(html).text.split())
    assert "theirs, against mine" in told
    assert "cat: 3 better, 1 worse, of 4; -1.5 points in the mean" in told
    assert "Better, 1 of 3" in told
    assert "7 that only one of them was asked for" in told
    assert "8 images could not be opened" in told
    assert "5 → 95" in told
    assert html.count('class="box-run1"') == 2  # the legend's, and the picture's
    same = replace(change, better=0, worse=0, strips=())
    nowhere = page.render([run(), run(changes=page.Changes((same,)))])
    assert "Nowhere by 5 points or more." in nowhere
    assert "could not be opened" not in nowhere
    assert "differ most" not in nowhere
    many = page.render([run(), run(changes=page.Changes((same,) * 21))])
    assert "Pictures are of the 20 classes that differ most." in many
    apart = page.render([run(), run(changes=page.Changes((replace(same, of=0),)))])
    assert "judged on other images" in apart
    assert "Where they differ" not in page.render([run()])


@pytest.mark.parametrize(
    ("others", "told"),
    [([], "here are 0"), ([run()] * 5, "here are 5"), ([run(), run(task="x")], "different tasks"),
     ([run(), run(classes=[result("dog")])], "mine and mine have different tasks or classes")],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(others: list[page.RunPage], told: str) -> None:
    with pytest.raises(InputError, match=told):
        page.render(others)


def test_the_envelope_is_what_ap_measures() -> None:
    corners = charts.curve_corners(RECALL, PRECISION)
    assert corners == ((0.0, 1.0), (0.25, 1.0), (0.25, 0.75), (0.5, 0.75), (0.75, 0.75))
    many = np.linspace(0, 1, 5001)[1:]
    long = charts.curve_corners(many, 1 - many / 2)
    assert len(long) <= 2 * charts.MOST_POINTS + 1
    assert long[-1] == (1.0, 0.5)
    assert charts.curve_corners(np.zeros(0), np.zeros(0)) == ()
    assert charts.curve_corners(np.full(3, np.nan), np.zeros(3)) == ()
    empty = replace(result(), curve=(), detections=0)
    assert "nothing detected" in charts.precision_recall([empty])
    assert "no objects to find" in charts.precision_recall([replace(empty, objects=0)])


def test_each_drawing_is_there_for_both_widths() -> None:
    html = page.render([run()])
    assert html.count('class="roomy"') == html.count('class="narrow"') == 5


# --- galleries ------------------------------------------------------------------------------------

DETECTIONS = [
    {"image_id": "a", "class": "cat", "score": 0.9, "box": (10, 10, 30, 30)},  # right
    {"image_id": "a", "class": "cat", "score": 0.8, "box": (12, 10, 32, 30)},  # found twice
    {"image_id": "a", "class": "cat", "score": 0.7, "box": (52, 50, 72, 70)},  # a dog
    {"image_id": "b", "class": "cat", "score": 0.6, "box": (1, 1, 9, 9)},  # nothing
    {"image_id": "b", "class": "cat", "score": 0.95, "box": (60, 60, 80, 80)},  # a cow: similar
]
OBJECTS = [
    {"image_id": "a", "class": "cat", "box": (10, 10, 30, 31)},
    {"image_id": "a", "class": "dog", "box": (50, 50, 70, 70)},
    {"image_id": "b", "class": "cow", "box": (60, 60, 80, 82)},
    {"image_id": "b", "class": "cat", "box": (5, 50, 45, 90)},  # missed
    {"image_id": "b", "class": "cat", "box": (30, 0, 35, 5)},  # missed, smaller
    {"image_id": "b", "class": "cat", "box": (0, 0, 99, 99), "difficult": True},
]


def chosen(**options: Any) -> dict[str, list[galleries.Chosen]]:
    objects = [{"difficult": False, **each} for each in OBJECTS]
    matches = evaluate_detections(DETECTIONS, objects, image_ids=["a", "b"]).matches
    options = {"classes": ["cat", "dog"], "similar": [{"cat", "cow"}], **options}
    return galleries.choose(DETECTIONS, objects, matches, **options)


def test_each_kind_is_shown_with_what_it_has_to_do_with() -> None:
    told = {
        kind.title: [(it.image_id, it.caption, [box.kind for box in it.boxes]) for it in kind.shown]
        for kind in chosen()["cat"]
    }
    assert told == {
        "Best hits": [("a", "0.90, IoU 0.95", ["object", "true"])],
        "Wrong: badly placed, or found twice": [("a", "0.80, IoU 0.78", ["object", "false"])],
        "Wrong: a similar class": [("b", "0.95, cow", ["object", "false"])],
        "Wrong: another class": [("a", "0.70, dog", ["object", "false"])],
        "Wrong: background": [
            ("b", "0.60", ["object", "false"])
        ],  # the difficult cat, far too large
        "Missed objects": [("b", "40×40 px", ["missed"]), ("b", "5×5 px", ["missed"])],
    }
    assert [kind.title for kind in chosen()["dog"]] == ["Missed objects"]


def test_thumbnails_show_the_window_and_boxes_lie_on_it() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[10:30, 10:30] = 255
    loaded: list[Any] = []

    def load(image_id: Any) -> np.ndarray:
        loaded.append(image_id)
        if image_id == "b":
            raise UndecodableImage("torn")
        return pixels

    strips, unopened = thumbnails.cut(chosen(), load)
    assert unopened == 1
    assert sorted(loaded) == ["a", "b"]  # each once
    assert [strip.title for strip in strips["cat"]] == [
        "Best hits",
        "Wrong: badly placed, or found twice",
        "Wrong: another class",
    ]
    best = strips["cat"][0].thumbnails[0]
    # 20 px and 0.35 of that on each side, enlarged to the height of all.
    assert best.height == thumbnails.HEIGHT_PX
    (box,) = [each.corners for each in best.boxes if each.kind == "true"]
    factor = thumbnails.HEIGHT_PX / 34
    assert box == pytest.approx((7 * factor, 7 * factor, 27 * factor, 27 * factor))
    assert b64decode(best.jpeg).startswith(b"\xff\xd8")


def test_a_box_outside_of_its_image_is_no_fault() -> None:
    found = [{"image_id": "a", "class": "cat", "score": 0.9, "box": (500, 600, 700, 800)}]
    matches = evaluate_detections(found, [], image_ids=["a"]).matches
    shown = galleries.choose(found, [], matches, classes=["cat"])
    strips, _ = thumbnails.cut(shown, lambda _: np.zeros((50, 60, 3), np.uint8))
    assert len(strips["cat"][0].thumbnails) == 1


def test_a_page_without_any_object_is_a_page() -> None:
    empty = replace(result(), curve=(), detections=0, objects=0, ap=math.nan)
    assert "no objects to find" in page.render([run(classes=[empty], mean_ap=math.nan, charts=[])])
    matches = evaluate_detections([], [], image_ids=["a"]).matches
    assert galleries.choose([], [], matches, classes=["cat"]) == {"cat": []}


# --- what is kept ---------------------------------------------------------------------------------


def gathered(**changes: Any) -> results.Results:
    objects = [{"difficult": False, **each} for each in OBJECTS]
    tables = {
        "detections": pa.Table.from_pylist(DETECTIONS),
        "objects": pa.Table.from_pylist(objects),
        "window_ious": np.array([0.9, 0.6, 0.7, 0.2, 0.5, 1.0]),
    }
    evaluation = evaluate_detections(DETECTIONS, objects, image_ids=["a", "b"])
    pixels = np.zeros((100, 100, 3), np.uint8)
    return results.gather(
        evaluation, **tables | changes, diagnosis={}, load=lambda _: pixels, similar=[]
    )


def test_what_is_kept_is_what_is_shown(tmp_path: Path) -> None:
    told = gathered()
    assert [each.name for each in told.classes] == list(told.galleries) == ["cat", "cow", "dog"]
    cat = told.classes[0]
    assert (cat.objects, cat.found, cat.detections, cat.uncovered) == (3, 1, 5, None)
    # Five objects count: the difficult one is none of them.
    assert told.recall.lines[0].points[0] == (0.5, 0.8)
    assert told.recall.lines[0].points[4] == (0.7, pytest.approx(0.4))
    kept.keep(told, tmp_path)
    assert results.read(tmp_path) == told
    assert [each.name for each in tmp_path.iterdir()] == [kept.RESULTS]


def test_without_objects_there_is_no_recall(tmp_path: Path) -> None:
    nothing = {
        "objects": pa.Table.from_pylist([{"image_id": "a", "class": "cat", "box": [0, 0, 1, 1],
                                          "difficult": True}]),
        "window_ious": np.array([0.3]),
    }  # fmt: skip
    told = gathered(**nothing)
    assert told.recall.lines[0].points == ()
    kept.keep(told, tmp_path)
    assert results.read(tmp_path).recall == told.recall


@pytest.mark.parametrize("held", [None, "", "{", "[]", '{"classes": 1}'])
def test_what_cannot_be_read_is_named(held: str | None, tmp_path: Path) -> None:
    if held is not None:
        (tmp_path / kept.RESULTS).write_text(held)
    with pytest.raises(InputError, match=r"results.json cannot be read .*: remove its folder"):
        results.read(tmp_path)
