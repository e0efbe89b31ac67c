"""The page about runs that classify whole images: who is taken for whom, and which are shown."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.answers import Answers
from pipeline.evaluation.classification import judge_images
from pipeline.images import UndecodableImage
from pipeline.report import page
from pipeline.report.page import image_galleries, image_results, kept, thumbnails
from pipeline.report.page.matrix import confusion_matrix

HOSTILE = "<script>alert(1)</script>\"'&"
CLASSES = ("cat", "dog", "cow")
# Of each image: what it shows, and its scores.
SINGLE: dict[str, tuple[str, tuple[float, ...]]] = {
    "a": ("cat", (0.9, 0.2, -0.5)),  # right by 0.7
    "b": ("cat", (0.1, 0.8, 0.0)),  # dog, by 0.7
    "c": ("cat", (0.3, 0.1, -1.0)),  # right by 0.2
    "d": ("dog", (-0.2, 0.5, 0.6)),  # cow, by 0.1
    "e": ("dog", (-1.0, 1.0, -1.0)),  # right by 2
    "f": ("cow", (0.4, -0.3, 0.1)),  # cat, by 0.3
}
PIXELS = np.zeros((30, 60, 3), np.uint8)


def answers(held: dict[str, tuple[str, tuple[float, ...]]] = SINGLE) -> Answers:
    """Answers of which the first word tells what is shown; `?` before a class: hardly."""
    labels = np.full((len(held), len(CLASSES)), -1, np.int8)
    for row, (told, _) in enumerate(held.values()):
        for word in told.split():
            labels[row, CLASSES.index(word.strip("?"))] = 0 if word.startswith("?") else 1
    return Answers(list(held), labels, np.array([scores for _, scores in held.values()]))


def judged(*splits: Answers) -> list[dict[str, Any]]:
    """What `evaluate` leaves of them, as JSON has it."""
    told = []
    for each in splits:
        found = judge_images(each.scores, each.labels, CLASSES, "area")
        confusion = None if found.confusion is None else found.confusion.tolist()
        one = {"confusion": confusion, "class_accuracy": found.class_accuracy, "ap": found.ap}
        told.append(json.loads(json.dumps(one).replace("NaN", "null")))
    return told


def gathered(*splits: Answers, load: Any = lambda _: PIXELS) -> image_results.ImageResults:
    return image_results.gather(lambda: splits, judged(*splits), CLASSES, load)


def chosen(*splits: Answers, single: bool = True) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Images and captions by class and strip."""
    return {
        name: {
            kind.title: [(str(one.image_id), one.caption) for one in kind.shown] for kind in held
        }
        for name, held in image_galleries.choose(splits, CLASSES, single).items()
    }


# --- which are shown ------------------------------------------------------------------------------


def test_the_clearest_of_each_kind_are_shown() -> None:
    assert chosen(answers()) == {
        "cat": {
            "Right, the clearest first": [("a", "by 0.70"), ("c", "by 0.20")],
            "Wrong: taken for another class": [("b", "dog, by 0.70")],
            "Wrong: taken for this class": [("f", "shows cow, by 0.30")],
            "Lowest scores of its images": [
                ("b", "0.10, taken for dog"), ("c", "0.30"), ("a", "0.90")
            ],
        },
        "dog": {
            "Right, the clearest first": [("e", "by 2.00")],
            "Wrong: taken for another class": [("d", "cow, by 0.10")],
            "Wrong: taken for this class": [("b", "shows cat, by 0.70")],
            "Lowest scores of its images": [("d", "0.50, taken for cow"), ("e", "1.00")],
        },
        "cow": {
            "Wrong: taken for another class": [("f", "cat, by 0.30")],
            "Wrong: taken for this class": [("d", "shows dog, by 0.10")],
            "Lowest scores of its images": [("f", "0.10, taken for cat")],
        },
    }  # fmt: skip


def test_an_image_of_several_splits_is_shown_once_with_its_clearest_answer() -> None:
    other = answers({"b": ("cat", (0.0, 0.3, 0.1)), "c": ("cat", (0.7, -0.2, -1.0)),
                     "a": ("cat", (0.4, 0.3, 0.0))})  # fmt: skip
    for splits in ((answers(), other), (other, answers())):
        cat = chosen(*splits)["cat"]
        assert cat["Right, the clearest first"] == [("c", "by 0.90"), ("a", "by 0.70")]
        assert cat["Wrong: taken for another class"] == [("b", "dog, by 0.70")]
        assert cat["Lowest scores of its images"][0] == ("b", "0.00, taken for dog")
        kinds = image_galleries.choose(splits, CLASSES, single=True)["cat"]
        assert [kind.count for kind in kinds] == [2, 1, 1, 3]  # images, and not answers


SEVERAL: dict[str, tuple[str, tuple[float, ...]]] = {
    "a": ("cat dog", (0.9, -0.4, -2.0)),
    "b": ("cat", (-0.2, 0.3, -2.0)),
    "c": ("dog", (0.5, 0.8, -2.0)),
    "d": ("", (-0.5, -0.6, -2.0)),  # below all cats: it spoils nothing
    "e": ("?cat", (0.7, -0.3, -2.0)),  # hardly to be told: it counts neither way
}


def test_where_images_show_several_those_are_wrong_that_spoil_the_ranking() -> None:
    assert chosen(answers(SEVERAL), single=False) == {
        "cat": {
            "Highest scores of its images": [("a", "0.90"), ("b", "-0.20")],
            "Wrong: do not show it, and score higher than some that do": [("c", "0.50, shows dog")],
            "Lowest scores of its images": [("b", "-0.20"), ("a", "0.90")],
        },
        "dog": {
            "Highest scores of its images": [("c", "0.80"), ("a", "-0.40")],
            "Wrong: do not show it, and score higher than some that do": [
                ("b", "0.30, shows cat"), ("e", "-0.30")
            ],
            "Lowest scores of its images": [("a", "-0.40"), ("c", "0.80")],
        },
        "cow": {},  # no image shows it
    }  # fmt: skip


def test_many_images_and_classes_are_no_more_pictures() -> None:
    many = {f"{k:03d}": ("cat", (k / 100, -1.0, -1.0)) for k in range(50)}
    right, low = image_galleries.choose([answers(many)], CLASSES, True)["cat"]
    most = thumbnails.SPARE * image_galleries.MOST
    assert (right.count, low.count) == (50, 50)
    assert [one.image_id for one in right.shown] == [f"{k:03d}" for k in range(49, 49 - most, -1)]
    assert [one.image_id for one in low.shown] == [f"{k:03d}" for k in range(most)]
    (strip, _) = thumbnails.cut({"cat": [right, low]}, lambda _: PIXELS)[0]["cat"]
    assert (len(strip.thumbnails), strip.count) == (image_galleries.MOST, 50)
    count = thumbnails.MOST_CLASSES + 1
    eye = Answers([f"{k}" for k in range(count)], (2 * np.eye(count) - 1).astype(np.int8),
                  np.eye(count))  # fmt: skip
    found = image_galleries.choose([eye], [f"c{k}" for k in range(count)], True)
    assert list(found) == [f"c{k}" for k in range(count - 1)]


def test_whole_images_are_shown_whole() -> None:
    (strip, *_) = gathered(answers()).galleries["cat"]
    first = strip.thumbnails[0]
    size = (2 * thumbnails.HEIGHT_PX, thumbnails.HEIGHT_PX)  # of 60×30 pixels
    assert (first.image_id, (first.width, first.height), first.boxes) == ("a", size, ())


def test_what_is_hardly_to_be_told_is_no_mistake() -> None:
    held = answers({"g": ("dog ?cat", (0.9, 0.4, 0.1)), "h": ("dog", (0.9, 0.4, 0.1)),
                    "i": ("", (0.9, 0.4, 0.1))})  # fmt: skip
    assert held.wrong.tolist() == [False, True, False]
    assert held.margins[:2] == pytest.approx([0.4 - 0.1, 0.4 - 0.9])
    told = gathered(answers({"x": ("cat dog", (0.9, 0, 0)), "y": ("?cat", (0.8, 0, 0)),
                             "z": ("cat", (0.7, 0, 0))}))  # fmt: skip
    assert (told.classes[0].images, told.classes[0].right) == (2, 2)


def test_a_single_class_has_no_other_to_lead_over() -> None:
    alone = Answers(["a"], np.ones((1, 1), np.int8), np.array([[0.25]]))
    assert alone.margins.tolist() == [0.25]
    assert not alone.wrong.any()


# --- what is kept ---------------------------------------------------------------------------------


def test_who_is_taken_for_whom() -> None:
    told = gathered(answers())
    assert told.confusion == page.Confusion(
        counts=((2, 1, 0), (0, 1, 1), (1, 0, 0)),
        frequent=(
            page.Confused("cat", "dog", 1, 3),
            page.Confused("dog", "cow", 1, 2),
            page.Confused("cow", "cat", 1, 1),
        ),
        mistakes=3,
        answers=6,
        right=3,
    )
    rows = [(each.name, each.images, each.right, each.taken) for each in told.classes]
    assert rows == [("cat", 3, 2, 1), ("dog", 2, 1, 1), ("cow", 1, 0, 1)]
    assert [each.accuracy for each in told.classes] == pytest.approx([2 / 3, 1 / 2, 0])
    assert told.mean_accuracy == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert [each.curve for each in told.classes] == [()] * 3


def test_splits_are_added_up_and_their_shares_averaged() -> None:
    other = answers({"g": ("cat", (0.5, 0.0, 0.0)), "h": ("dog", (0.0, 0.0, 0.3)),
                     "i": ("cow", (0.1, 0.0, 0.3))})  # fmt: skip
    told = gathered(answers(), other)
    assert told.confusion is not None
    assert told.confusion.counts == ((3, 1, 0), (0, 1, 2), (1, 0, 1))
    assert told.confusion.frequent[0] == page.Confused("dog", "cow", 2, 3)
    assert [each.accuracy for each in told.classes] == pytest.approx([5 / 6, 1 / 4, 1 / 2])


def test_of_many_classes_the_most_frequent_mistakes_are_told() -> None:
    count = image_results.MOST_DRAWN + 1
    names = [f"c{k}" for k in range(count)]
    counts = 7 * np.eye(count, dtype=np.int64)
    counts[3, 1:] += 1  # its own, too
    counts[40, 2] = 5
    told = image_results.confused(counts, names)
    assert told.counts is None
    assert told.frequent[0] == page.Confused("c40", "c2", 5, 12)
    assert told.frequent[1] == page.Confused("c3", "c1", 1, 47)
    assert (len(told.frequent), told.mistakes) == (image_results.MOST_TOLD, 40)
    assert (told.right, told.answers) == (7 * 41 + 1, 7 * 41 + 40 + 5)
    assert image_results.confused(counts[:40, :40], names[:40]).counts is not None


def test_where_images_show_several_there_are_curves() -> None:
    told = gathered(answers(SEVERAL))
    cat, dog, cow = told.classes
    # a, then c, which is none, then b; e does not count.
    assert cat.curve == ((0.0, 1.0), (0.5, 1.0), (0.5, 2 / 3), (1.0, 2 / 3))
    assert cat.ap == pytest.approx((1 + 2 / 3) / 2)
    assert (cat.images, cat.right, cat.accuracy, cat.score) == (2, 1, None, cat.ap)
    assert dog.curve[-1] == (1.0, 0.5)  # c, b, e, a
    assert (cow.images, cow.curve, cow.no_curve) == (0, (), "no image shows it")
    assert math.isnan(cow.ap)
    assert (told.confusion, told.mean_accuracy) == (None, None)
    assert told.mean_ap == pytest.approx((cat.ap + dog.ap) / 2)


def test_what_is_kept_is_what_is_shown(tmp_path: Path) -> None:
    def load(name: Any) -> np.ndarray:
        if name == "b":
            raise UndecodableImage("torn")
        return PIXELS

    told = gathered(answers(), load=load)
    assert told.unopened == 1
    assert [strip.title for strip in told.galleries["cat"]] == [
        image_galleries.RIGHT, image_galleries.TAKEN_FOR_IT, image_galleries.LOWEST
    ]  # fmt: skip
    kept.keep(told, tmp_path)
    assert image_results.read(tmp_path) == told
    (tmp_path / kept.RESULTS).write_text('{"classes": []}')
    with pytest.raises(InputError, match=r"results.json cannot be read .*: remove its folder"):
        image_results.read(tmp_path)


# --- the page -------------------------------------------------------------------------------------


def run(name: str = "mine", *splits: Answers, **changes: Any) -> page.RunPage:
    told = gathered(*(splits or (answers(),)))
    whole = page.RunPage(
        name=name,
        task="classification",
        figures=[page.Figure("38.9", "mean class accuracy")],
        measure="Accuracy.",
        classes=told.classes,
        mean_ap=told.mean_ap,
        mean_accuracy=told.mean_accuracy,
        confusion=told.confusion,
        charts=[],
        jobs=[page.JobTime("train", (), ((0.0, 2.0),), 2.0, "classes 3")],
        galleries=told.galleries,
        recipe={"": {"name": '"mine"'}},
        made_with=[("torch", "2.13.0")],
    )
    return replace(whole, **changes)


def words(html: str) -> str:
    """All text between tags, on one line."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL))


def test_the_page_says_who_is_taken_for_whom() -> None:
    html = page.render([run()])
    told = words(html)
    assert "cat 66.7 " in told  # of bars
    assert "cat, taken for dog: 1 of 3" in html
    assert "3 of 6 answers are right." in told
    assert "shows taken for answers of share cat dog 1 3 33.3 dog cow 1 2 50.0" in told
    assert "class accuracy AP answers right wrong others taken for it cat 66.7" in told
    assert '<a href="#confusion">' in html
    assert "Wrong: taken for another class" in told
    for absent in ("Precision over recall", "no window", "box-true", "Windows and"):
        assert absent not in html.partition("</style>")[2], absent


def test_without_one_class_an_image_there_are_curves_and_no_confusions() -> None:
    html = page.render([run("mine", answers(SEVERAL))])
    assert html.count("precision over recall of") == 3
    assert "no image shows it" in html
    assert "class AP images among the best cat 83.3 2 1" in words(html)
    assert "confusion" not in html
    assert "taken for" not in html


def test_two_runs_stand_beside_each_other() -> None:
    better = answers({**SINGLE, "b": ("cat", (0.9, 0.8, 0.0)), "f": ("cow", (0.4, -0.3, 0.5))})
    told = words(page.render([run(), run("theirs", better)]))
    assert "cat 66.7 100.0 +33.3 dog 50.0 50.0 +0.0 cow 0.0 100.0 +100.0" in told
    assert "mean 38.9 83.3 +44.4" in told
    assert "3 of 6 answers are right." in told
    assert "5 of 6 answers are right." in told


def test_what_does_not_compare_is_refused() -> None:
    several = run("several", answers(SEVERAL))
    for pair in ([run(), several], [several, run()]):
        told = "mine is judged by accuracy, .* and several by average precision, .*: these two do"
        with pytest.raises(InputError, match=told):
            page.render(pair)
    with pytest.raises(InputError, match="different tasks or classes"):
        page.render([run(), replace(run(), task="detection")])
    with pytest.raises(InputError, match="different tasks or classes"):
        page.render([run(), replace(run(), classes=run().classes[:2])])


def test_what_comes_from_outside_is_no_markup() -> None:
    classes = [page.ClassAnswers(HOSTILE, 0.5, 0.5, 2, 1, 1)]
    confusion = page.Confusion(((1,),), (page.Confused(HOSTILE, HOSTILE, 1, 2),), 1, 2, 1)
    thumbnail = page.Thumbnail("eA==", 9, 9, (), HOSTILE, HOSTILE)
    galleries = {HOSTILE: [page.Strip(HOSTILE, (thumbnail,), 5)]}
    single = run(HOSTILE, classes=classes, confusion=confusion, galleries=galleries)
    curve = ((0.0, 1.0), (1.0, 1.0))
    several = replace(single, confusion=None, mean_accuracy=None,
                      classes=[replace(classes[0], accuracy=None, curve=curve)])  # fmt: skip
    for runs in ([single], [single, single], [several], [several, several]):
        html = page.render(runs)
        assert "<script" not in html
        assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8
        assert not re.search(r"<[^>]*\son\w+=", html)
        assert not re.search(r"url\(|@import|https?://", html)
        assert "default-src 'none'" in html


def cells(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[Any]:
    drawn = ElementTree.fromstring(confusion_matrix(counts, names))
    return [each for each in drawn.iter("rect") if "cell" in (each.get("class") or "")]


def test_cells_lie_at_their_classes_and_are_as_strong_as_their_share() -> None:
    right, wrong, other = cells(((2, 1), (0, 4)), ("cat", "dog"))
    assert [each.get("class") for each in (right, wrong, other)] == [
        "cell right", "cell wrong", "cell right"
    ]  # fmt: skip
    assert float(wrong.get("x")) - float(right.get("x")) == 20
    assert (wrong.get("y"), other.get("x")) == (right.get("y"), wrong.get("x"))
    shares = [float(each.get("fill-opacity")) for each in (right, wrong, other)]
    assert shares == pytest.approx([0.25 + 0.75 * 2 / 3, 0.25 + 0.75 / 3, 1.0])
    assert right.find("title").text == "cat, taken for cat: 2 of 3"
    assert cells(((0,),), ("cat",)) == []
    told = [each.text for each in ElementTree.fromstring(confusion_matrix(((1999,),), ("x" * 99,))
                                                         ).iter("text")]  # fmt: skip
    assert told[-1] == "2k"
    assert all(len(each or "") < 25 for each in told)
