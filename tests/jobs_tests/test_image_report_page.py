"""`spp report` of runs that classify whole images: the page, of which everything is real."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.colours import write_colours

Run = Callable[..., Any]
# Scenes of the digits show several each.
SEVERAL = """
name = "scenes"
task = "classification"
[dataset]
kind = "digits"
train = "train"
train_images = 12
test_images = 8
[network]
name = "zf5"
width = 0.1
fc_units = 16
[features]
scales = [96]
levels = [2, 1]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes and images; runs of these tests share what they have made."""
    place = tmp_path_factory.mktemp("image_report")
    write_colours(place)
    (place / "soft.toml").write_text(
        'extends = "colours.toml"\nname = "soft"\n[classification]\nC = 1e-6\n'
    )
    (place / "random.toml").write_text(
        'extends = "colours.toml"\nname = "random"\n'
        "[classification]\nrandom_splits = 3\ntrain_per_class = 2\n"
    )
    (place / "scenes.toml").write_text(SEVERAL)
    (place / "alone.toml").write_text(
        'extends = "scenes.toml"\nname = "alone"\n[dataset]\nkind = "digit_images"\n'
        "train_images = 40\ntest_images = 30\n"
    )
    return place


@pytest.fixture
def report(folder: Path, spp: Run) -> Run:
    def run(*names: str, word: str = "report", **options: str | Path) -> Any:
        recipes = [folder / f"{name}.toml" for name in names]
        given = [each for name, value in options.items() for each in (f"--{name}", value)]
        places = ("--data", folder, "--runs", folder / "runs")
        return spp(word, *recipes, *places, "--serial", *given)

    return run


def words(file: Path) -> str:
    """All text between tags, on one line."""
    html = file.read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL))


def test_a_run_has_a_page(folder: Path, report: Run) -> None:
    said = report("colours", word="run")
    assert said.code == 0, said.err
    file = folder / "runs" / "colours" / "report.html"
    assert f"all of it, as a page: {file}" in said.out
    told, html = words(file), file.read_text(encoding="utf-8")
    assert "100.0 mean class accuracy" in told
    assert "12 images. AP is by voc07: the mean of precision at 11 recalls." in told
    assert "12 of 12 answers are right." in told
    assert "blue, taken for blue: 4 of 4" in html
    # Of each class its four images twice: as the clearest, and as those with the lowest scores.
    assert html.count("data:image/jpeg;base64,") == 3 * (4 + 4)
    assert html.count('class="node') == 2 * 9  # jobs
    assert "images a second of a worker, from file to shard; 30 images " in told
    assert "classification.C" in told
    assert "sha256" in told
    before = file.read_bytes()
    assert report("colours").code == 0
    assert file.read_bytes() == before


def test_two_runs_stand_beside_each_other(folder: Path, report: Run) -> None:
    said = report("colours", "soft")
    assert said.code == 0, said.err
    told = words(folder / "runs" / "colours-and-soft.html")
    assert "Differences to colours" in told
    differ = r"What differs 1 field of the recipe field colours soft classification\.C 1\.0 "
    assert re.search(differ + "1e-06 ", told)
    assert len(re.findall(r"\d+ of 12 answers are right\.", told)) == 2
    out = folder / "beside.html"
    assert report("soft", out=out).code == 0
    assert words(out).startswith(" soft ")


def test_random_splits_have_deviations_and_each_image_once(folder: Path, report: Run) -> None:
    said = report("random")
    assert said.code == 0, said.err
    file = folder / "runs" / "random" / "report.html"
    assert "100.0 ± 0.0 mean class accuracy" in words(file)
    assert "means of 3 random splits of the images, with 36 answers in all" in words(file)
    assert "36 of 36 answers are right." in words(file)
    (held,) = [
        json.loads(each.read_text())
        for each in (folder / "runs/jobs").glob("report-*/results.json")
        if json.loads(each.read_text())["confusion"]["answers"] == 36
    ]
    for strips in held["galleries"].values():
        for strip in strips:
            names = [one["image_id"] for one in strip["thumbnails"]]
            assert len(set(names)) == len(names) == 4
            assert strip["count"] <= 6  # images of the class, and not answers


def test_where_images_show_several_classes_precision_stands_over_recall(
    folder: Path, report: Run
) -> None:
    said = report("scenes")
    assert said.code == 0, said.err
    file = folder / "runs" / "scenes" / "report.html"
    html, told = file.read_text(encoding="utf-8"), words(file)
    assert "mean AP in percent" in told
    assert "8 images, of which each may show several classes." in told
    assert html.count("precision over recall of") == 10
    assert "mean class accuracy" not in told
    assert "taken for whom" not in told


def test_what_does_not_compare_has_no_page(folder: Path, report: Run) -> None:
    said = report("colours", "scenes")
    told = " ".join(said.err.replace("│", "").split())
    assert (said.code, "colours and scenes have different classes" in told) == (2, True)
    said = report("scenes", "alone")  # of the same classes: only what they show tells
    assert said.code == 1
    assert "no page was written: alone is judged by accuracy" in said.err
    assert "alone: accuracy of the mean class" in said.out  # what they came to is told, though
    assert not (folder / "runs" / "scenes-and-alone.html").exists()
