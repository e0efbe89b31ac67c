"""Searching from the command line."""

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.asked import ask
from pipeline.learning import Classifiers
from pipeline.report import sheet as sheet_
from pipeline.search import compacting
from pipeline.store.place import place
from pipeline.teaching import Shelf, newest
from pipeline.teaching.ranking import rank
from tests import small_store
from tests.s3 import BUCKET

Run = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images a, b and c with 3, 4 and 5 windows, all of one box; the file of c is gone."""
    monkeypatch.setattr(compacting, "QUERIES", 3)
    folder = tmp_path / "store"
    small_store.make(place(folder))
    for name, colour in (("a", "red"), ("b", "green")):
        Image.new("RGB", (100, 100), colour).save(folder / f"{name}.jpg")
    return folder


def hits(spp: Run, *options: object) -> list[dict[str, Any]]:
    said = spp("similar", *map(str, options), "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)["hits"]


def test_a_window_is_nearest_to_itself(root: Path, spp: Run) -> None:
    said = spp("similar", str(root), "--window", "b/2", "--top", "4", "--no-fold")
    head, first, *rest = said.out.splitlines()
    names = ["score", "image_id", "window_id", "x_min", "y_min", "x_max", "y_max", "source"]
    assert head.split() == names
    assert first.split() == ["1.0000", "b", "2", "7", "8", "9", "10", "grid"]
    assert len(rest) == 4
    assert rest[-1].startswith("nearest of 12 windows in ")
    assert rest[-1].endswith(" s, exact")


def test_as_json(root: Path, spp: Run) -> None:
    options = (root, "--window", "b/2")
    folded = hits(spp, *options)
    assert folded[0]["image_id"] == "b"
    assert sorted(each["image_id"] for each in folded) == ["a", "b", "c"]
    assert len(hits(spp, *options, "--no-fold")) == 12
    some = hits(spp, *options, "--no-fold", "--where", "image_id = 'c' AND window_id < 3")
    assert sorted(each["row"] for each in some) == [7, 8, 9]
    said = json.loads(spp("similar", *map(str, options), "--json").out)
    wanted = {"image": "b", "box": [7, 8, 9, 10], "instead_of": [], "iou": 1}
    assert (said["query"], said["windows"], said["fast"]) == (wanted, 12, None)
    assert said["passes"] == 1


def test_a_compact_copy_is_made_and_used(root: Path, spp: Run) -> None:
    options = (root, "--window", "c/0", "--no-fold")
    refused = spp("similar", *map(str, options), "--fast")
    assert refused.code == 1
    assert refused.err == (
        f"error: {root} has no compact copy of the vectors that it has now: spp index {root} makes "
        "one; or leave out --fast\n"
    )
    made = spp("index", str(root))
    assert made.code == 0
    says = "{}: recall@{} 1.0000 against exact, mean of {} queries, 1.000 at worst; "
    for line, *told in zip(
        made.out.splitlines()[1:], ("windows", "hits"), (12, 3), (3, 1), strict=True
    ):
        assert line.startswith(says.format(*told))
    assert json.loads(spp("index", str(root), "--json").out)["hits"]["recall"] == 1
    assert hits(spp, *options, "--fast") == hits(spp, *options)
    some = (*options, "--where", "window_id > 1")
    assert hits(spp, *some, "--fast") == hits(spp, *some)
    assert spp("similar", *map(str, options), "--fast").out.endswith(
        " s, recall@12 1.0000 against exact\n"
    )
    folded = spp("similar", str(root), "--window", "c/0", "--fast")
    assert folded.out.endswith(" s, recall@3 1.0000 against exact\n")
    next((root / "compact").glob("*-00001.arrow")).unlink()
    assert (
        "arrow is missing: run spp index again" in spp("similar", *map(str, options), "--fast").err
    )


def test_boxes_of_images(root: Path, spp: Run) -> None:
    # Of 2 × 2 and 2 × 2.5 px: 4 / 5.
    said = spp("similar", str(root), "a", "--box", "7,8,9,10.5")
    assert (
        "for 7,8,9,10.5, which no network is known for: the stored window 7,8,9,10, IoU 0.80"
        in (said.out)
    )
    far = spp("similar", str(root), "a", "--box", "50,50,60,60")
    assert far.code == 1
    assert (
        "overlaps the box [50.0, 50.0, 60.0, 60.0] by 0.5: the best has an IoU of 0.00" in far.err
    )
    crop = spp("similar", str(root), str(root / "a.jpg"))
    assert crop.code == 1
    assert "name the store as RECIPE:train or RECIPE:test" in crop.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give an image, with or without --box, or --window IMAGE_ID/WINDOW_ID"),
        (("a", "--window", "a/1"), "give an image, with or without --box"),
        (("--window", "a/1", "--box", "1,2,3,4"), "give an image, with or without --box"),
        (("a", "--class", "cat"), "--class is what to look for: give no image"),
        (("--class", "cat", "--fast"), "--class reads all vectors: leave out --fast"),
        (("a", "--box", "1,2,3"), "--box 1,2,3 is no x0,y0,x1,y1"),
        (("--window", "a"), "--window a is no IMAGE_ID/WINDOW_ID"),
        (("--window", "a/1", "--top", "0"), "Invalid value for .--top."),
    ],
)
def test_what_is_typed_wrongly(root: Path, spp: Run, options: tuple[str, ...], says: str) -> None:
    said = spp("similar", str(root), *options)
    assert said.code == 2
    assert re.search(says, " ".join(said.err.replace("│", " ").split()))


def test_windows_of_a_class(spp: Run, tiny_run: Path, tmp_path: Path) -> None:
    named = f"{tiny_run.parent / 'tiny.toml'}:train"
    asked, places = ask(named, tiny_run), ("--runs", tiny_run, "--shelf", tmp_path / "shelf")
    options = (named, "--class", "three", "--top", 3, *places)

    def found(*more: object) -> list[tuple[str, int, float]]:
        return [(h["image_id"], h["window_id"], h["score"]) for h in hits(spp, *options, *more)]

    def best(known: Classifiers) -> list[tuple[str, int, float]]:
        return [(h.image_id, h.window_id, h.score) for h in rank(asked.store, known, 3).top]

    (whole,) = asked.classifiers()  # the run's own
    assert found() == best(whole.only("three"))
    assert whole.classes.index("three") > 0
    image_id, window_id, _ = found()[0]
    marked = ("--window", f"{image_id}/{window_id}")
    assert spp("new", "three", named, *marked, *places).code == 0
    taught = newest(Shelf(tmp_path / "shelf"), "three")
    assert taught is not None
    assert found() == best(taught.classifiers) != best(whole.only("three"))
    assert {each[0] for each in found("--where", f"image_id = '{image_id}'")} == {image_id}
    sheet = tmp_path / "sheet.png"
    said = spp("similar", *options, "--pictures", sheet)
    assert said.out.splitlines()[-1].startswith(
        f"highest scores of 'three' among {len(asked.store):,} windows in "
    )
    with Image.open(sheet) as drawn:
        assert drawn.size[0] == 3 * (sheet_.CROP[0] + sheet_.GAP) + sheet_.GAP
    assert json.loads(spp("similar", *options, "--json").out)["query"] == {"class": "three"}
    unknown = spp("similar", named, "--class", "zebra", *places)
    assert (unknown.code, "has no classifier of 'zebra'" in unknown.err) == (1, True)


def test_pictures_of_the_hits(root: Path, spp: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert spp("similar", str(root), "--window", "a/0", "--pictures", str(sheet)).code == 0
    pixels = np.asarray(Image.open(sheet))
    # What was looked for, then a, then b and c in some order.
    step, left, top = sheet_.CROP[0] + sheet_.GAP, sheet_.GAP, sheet_.TITLE
    assert pixels.shape[1] == 4 * step + sheet_.GAP
    middles = [
        pixels[top + sheet_.CROP[1] // 2, left + k * step + sheet_.CROP[0] // 2] for k in range(4)
    ]
    names = [
        {0: "red", 1: "green"}[int(np.argmax(each))] if each.min() < 99 else "" for each in middles
    ]
    assert names[:2] == ["red", "red"]
    assert sorted(names[2:]) == ["", "green"]
    assert tuple(pixels[top - 3, left]) == sheet_.QUERIED


def test_a_compact_copy_over_a_network_says_what_it_costs(
    s3_server: Any, spp: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "QUERIES", 1)
    root = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    small_store.make(place(root))
    assert spp("index", root, "--json").code == 0
    said = spp("similar", root, "--window", "c/0", "--fast", "--top", "1")
    assert said.code == 0
    assert said.err == (
        f"{root} is read over a network, a row group for each window that the first pass leaves: "
        "there --fast saves little\n"
    )
    assert spp("similar", root, "--window", "c/0", "--top", "1").err == ""
