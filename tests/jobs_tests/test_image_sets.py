"""Training and test images have jobs of their own: what is in one set is nothing to the other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import dag, options, steps

RECIPE = """
name = "colours"
task = "classification"
[dataset]
kind = "folders"
root = "."
train = "train"
test = "test"
[network]
name = "zf5"
weights = "pretrain"
width = 0.07
fc_units = 16
[pretrain]
sides_px = [40]
resized_px = 48
epochs = 1
batch_size = 4
held_out = 0.2
scaffold = false
decode_threads = 1
[features]
scales = [48]
levels = [2, 1]
"""
COLOURS = {"blue": (30, 40, 210), "red": (220, 30, 40)}


def paint(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((50, 60, 3), colour, np.uint8)).save(path)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe, and beside it five training images and a test image of two classes."""
    for name, colour in COLOURS.items():
        for number in range(5):
            paint(tmp_path / "train" / name / f"{number}.png", colour)
        paint(tmp_path / "test" / name / "0.png", colour)
    (tmp_path / "colours.toml").write_text(RECIPE)
    return tmp_path / "colours.toml"


def folders(recipe: str | Path, data: Path, *changes: str) -> dict[str, Path]:
    """The folder of each job."""
    known = options.load(str(recipe), list(changes), data)
    planned = dag.plan(steps.jobs_of(known), known, data / "runs")
    return {job: step.folder for job, step in planned.items()}


@pytest.mark.parametrize("weights", ["pretrain", "random"])
def test_other_test_images_make_nothing_of_training_again(recipe: Path, weights: str) -> None:
    data, change = recipe.parent, f"network.weights={weights}"
    before = folders(recipe, data, change)
    paint(data / "test/red/1.png", COLOURS["red"])
    after = folders(recipe, data, change)
    again = {"dataset_test", "windows_test", "extract_test", "errors", "evaluate", "report"}
    assert {job for job in before if before[job] != after[job]} == again & {*before}
    paint(data / "train/red/5.png", COLOURS["red"])
    whole = folders(recipe, data, change)
    kept = {"dataset_test", "windows_test", *(("extract_test",) if weights == "random" else ())}
    assert {job for job in after if after[job] == whole[job]} == kept


def test_of_made_images_only_the_number_in_the_set_counts(tmp_path: Path) -> None:
    plain = folders("digits", tmp_path)
    more = folders("digits", tmp_path, "dataset.test_images=120")
    again = {"dataset_test", "windows_test", "extract_test", "detect", "evaluate", "report"}
    assert {job for job in plain if plain[job] != more[job]} == again


def test_one_image_set_for_both_is_read_once(recipe: Path, spp: Callable[..., Any]) -> None:
    data = recipe.parent
    changes = ("dataset.test=train", "network.weights=random")
    planned = folders(recipe, data, *changes)
    assert planned["dataset_test"] == planned["dataset_train"]
    given = [word for each in changes for word in ("--set", each)]
    places = ("--data", data, "--runs", data / "runs", "--serial")
    said = spp("run", recipe, *places, *given)
    assert said.code == 0, said.err
    assert len(list(data.glob("runs/jobs/dataset-*"))) == 1
    assert "accuracy of the mean class 1.000" in said.out


def test_unreadable_training_images_are_told_by_their_ids(
    recipe: Path, spp: Callable[..., Any]
) -> None:
    data = recipe.parent
    (data / "train/red/3.png").write_bytes(b"none")
    said = spp("pretrain", recipe, "--data", data, "--runs", data / "runs", "--serial")
    assert said.code == 3
    assert "quarantined: image train/red/3: not an image" in said.err
    (record,) = data.glob("runs/jobs/pretrain-*/done.json")
    told = json.loads(record.read_text())["summary"]
    assert (told["images"], told["quarantined"]) == (9, 1)
    assert [*told["unreadable"]] == ["train/red/3"]
