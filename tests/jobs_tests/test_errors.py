"""From images to a network trained on them, its errors by test views, and tables of those."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import dag, options, pretrain, steps, tables
from jobs.lines import Line, format_table
from pipeline import networks
from pipeline.datasets.digits_scans import DIGIT_CLASSES
from pipeline.datasets.labels import read_labels
from pipeline.evaluation.views import TestViews, probabilities
from pipeline.images import decode
from pipeline.pretraining import begin
from pipeline.store.files import read_json
from pipeline.threads import torch_threads

RECIPE = """
name = "small"
task = "classification"
[dataset]
kind = "digit_images"
train = "train"
train_images = 40
test_images = 30
[network]
name = "zf5"
weights = "pretrain"
width = 0.1
fc_units = 16
[pretrain]
resized_px = 80
sides_px = [64]
epochs = 1
batch_size = 16
held_out = 0.1
[features]
scales = [80]
levels = [2, 1]
"""
TABLE = """
title = "Views"
measure = "errors"
seeds = [0, 3]
[[rows]]
name = "plain, 10"
recipe = "small.toml"
view = "10"
paper = 35.99
set = { "network.name" = "plain_zf5", "network.image_px" = 64, "features.levels" = [1] }
[[rows]]
name = "pyramid, 10"
recipe = "small.toml"
view = "10"
[[rows]]
name = "pyramid, full"
recipe = "small.toml"
view = "full"
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe, and an empty one for runs."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "small.toml").write_text(RECIPE)
    (folder / "views.toml").write_text(TABLE)
    return folder


def folder_of(recipe: Path, runs: Path, job: str, *changes: str) -> Path:
    known = options.load(str(recipe), list(changes), None)
    return dag.plan(steps.jobs_of(known), known, runs)[job].folder


def test_errors_are_those_of_the_trained_network_on_the_test_images(
    ran: Path, spp: Callable[..., Any]
) -> None:
    recipe, runs = ran / "small.toml", ran / "runs"
    before = spp("status", recipe, "--runs", runs)
    assert "pretrain" in before.out
    assert "errors" not in before.out  # nobody asked for them
    done = spp("errors", recipe, "--serial", "--runs", runs)
    assert done.code == 0, done.err
    assert "errors have no page: spp report judges SVMs" in done.out
    assert not (runs / "small" / "report.html").exists()
    told = read_json(folder_of(recipe, runs, "errors") / "done.json")
    assert told is not None
    summary = told["summary"]
    kinds = ("crop", "10", "full", "8+2")
    assert {*summary} == {"images", "unreadable"} | {
        f"top-{k} error of {kind}" for k in (1, 5) for kind in kinds
    }
    assert "errors" in spp("status", recipe, "--runs", runs).out
    shown = f"{100 * summary['top-1 error of full']:.2f}"
    assert re.search(rf"\| full +\| +{shown} \|", done.out)
    assert "In percent of 30 images at 80 px on the shorter side, crops of 64 px." in done.out
    assert done.out.rstrip().endswith("learning.png")

    network = networks.load("zf5", folder_of(recipe, runs, "pretrain") / "network.safetensors")
    read = read_labels(folder_of(recipe, runs, "dataset_test"), DIGIT_CLASSES)
    assert read.not_single is None
    with torch_threads(1):
        for kind in kinds:
            wrong = np.zeros(6)
            for owner, label in zip(read.owners, read.classes, strict=True):
                image = decode(Path(read.files[owner]).read_bytes())
                scores = probabilities(network, image, TestViews(kind, (80,), 64))
                place = int((scores > scores[label]).sum())
                wrong[: min(place, 5) + 1] += 1
            assert summary[f"top-1 error of {kind}"] == pytest.approx(wrong[1] / 30)
            assert summary[f"top-5 error of {kind}"] == pytest.approx(wrong[5] / 30)


def test_unreadable_images_are_named_and_not_counted(
    ran: Path, spp: Callable[..., Any], tmp_path: Path
) -> None:
    runs = ran / "runs"
    spp("errors", ran / "small.toml", "--serial", "--runs", runs)
    whole = read_json(folder_of(ran / "small.toml", runs, "errors") / "done.json")
    for split in ("train", "test"):
        made = folder_of(ran / "small.toml", runs, f"dataset_{split}") / "images"
        shutil.copytree(made / split, tmp_path / "mine" / split)
    spoilt = next((tmp_path / "mine" / "test" / "three").iterdir())
    spoilt.write_bytes(spoilt.read_bytes()[:300])
    own = tmp_path / "own.toml"
    change = f'kind = "folders"\nroot = "{tmp_path / "mine"}"\ntest = "test"'
    text = RECIPE.replace('kind = "digit_images"', change)
    text = re.sub(r"\w+_images = \d+\n", "", text).replace('"small"', '"own"')
    weights = folder_of(ran / "small.toml", runs, "pretrain") / "network.safetensors"
    own.write_text(text.replace('weights = "pretrain"', f'weights = "{weights}"'))
    changes = ("errors.scales=[80]", "errors.crop_px=64", 'errors.views=["crop"]', "errors.top=[1]")
    given = [word for change in changes for word in ("--set", change)]
    done = spp("errors", own, "--serial", "--runs", tmp_path / "runs", *given)
    assert done.code == 2
    assert "are not the same in order ('zero' stands there for 'eight')" in done.err
    changes += (f"dataset.classes={json.dumps(DIGIT_CLASSES)}",)
    given += ["--set", changes[-1]]
    done = spp("errors", own, "--serial", "--runs", tmp_path / "runs", *given)
    assert done.code == 3, done.err  # done, and something is quarantined
    told = read_json(folder_of(own, tmp_path / "runs", "errors", *changes) / "done.json")
    assert told is not None
    assert told["summary"]["images"] == 29
    assert {*told["summary"]} == {"images", "unreadable", "top-1 error of crop"}
    assert [*told["summary"]["unreadable"]] == [f"test/three/{spoilt.stem}"]
    assert "of 29 images" in done.out
    assert "; 1 could not be read, and count neither way." in done.out
    assert f"quarantined: image test/three/{spoilt.stem}: damaged PNG" in done.err
    assert whole is not None
    before = 30 * whole["summary"]["top-1 error of crop"]  # the spoilt one was right or wrong
    assert round(before - 29 * told["summary"]["top-1 error of crop"], 6) in (0, 1)


def test_a_table_of_errors_is_of_several_trainings(ran: Path, spp: Callable[..., Any]) -> None:
    runs = ran / "tables"
    done = spp("table", ran / "views.toml", "--serial", "--runs", runs)
    assert done.code == 0, done.err
    told = json.loads((runs / "views" / "table.json").read_text())
    kinds = [path.name.rpartition("-")[0] for path in (runs / "jobs").iterdir()]
    # Two rows share their networks; each of four is trained once.
    counts = {"dataset": 2, "pretrain": 4, "errors": 6}
    assert {kind: kinds.count(kind) for kind in kinds} == counts
    for row in told["rows"]:
        found = [
            json.loads((runs / "jobs" / told["folders"][name]["errors"] / "done.json").read_text())
            for name in (f"{row['name']}, seed 0", f"{row['name']}, seed 3")
        ]
        view = row["name"].rpartition(" ")[2]
        one, other = (each["summary"][f"top-1 error of {view}"] for each in found)
        assert row["value"] == pytest.approx((one + other) / 2)
        assert row["spread"] == pytest.approx(abs(one - other) / 2)
    assert "± its standard deviation over the 2 trainings" in done.out
    assert "35.99" in done.out
    assert "s/image" not in done.out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({'"errors"': '"mAP"'}, "view goes with errors as the table's measure"),
        ({'view = "10"\npaper': "paper"}, "row 'plain, 10': view goes with errors"),
        ({"seeds": "per_class = true\nseeds"}, "has no per_class and no baseline"),
        ({'"features.levels" = [1]': '"errors.views" = ["crop"], "features.levels" = [1]'},
         "row 'plain, 10': errors.views is set to ['10'] by the table's view or seeds"),
        ({'set = { "n': 'set = { "pretrain.seed" = 5, "n'}, "pretrain.seed is set to 0 by the"),
        ({"[0, 3]": "[3, 3]"}, "seeds: give different whole numbers from 0"),
        ({'"errors"': '"top-2 error"'}, "measure: Input should be"),
        ({'"network.name"': '"network.weights" = "random", "network.name"'},
         "seeds are of training a network, and small trains none"),
        ({'view = "full"': 'view = "full"\n[[rows]]\nname = "both"\nview = "10"\n'
          'combine = ["plain, 10", "pyramid, full"]'}, "has no combinations"),
        ({'view = "10"\npaper': 'view = "full"\npaper'},
         "plain_zf5 takes one size of images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_wrong_table_is_refused(
    ran: Path, spp: Callable[..., Any], tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    text = TABLE
    for old, new in changes.items():
        text = text.replace(old, new, 1)
    (tmp_path / "small.toml").write_text(RECIPE)
    (tmp_path / "wrong.toml").write_text(text)
    answer = spp("table", tmp_path / "wrong.toml", "--serial", "--runs", tmp_path / "runs")
    assert answer.code == 2, answer.out
    assert said in answer.err
    assert not (tmp_path / "runs" / "jobs").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('network.weights="random"', "small has an untrained network, whose errors say nothing"),
        ('network.upto="conv4"', "before its classifier: leave it out"),
        ("classification.random_splits=2", "random_splits judges by parts of the training images"),
        ("errors.views=[]", "give one or more different views"),
        ("errors.scales=[0]", "give one or more different whole numbers from 1"),
        ("errors.top=[10]", "of 10 classes the best 10 are always right"),
        ('dataset.test="train"', "dataset.test is 'train', and so is dataset.train"),
        ("network.image_px=64", "the one size that plain_zf5 takes, and zf5 takes any"),
        ("errors.crop_px=96", "crops of 96 px do not fit in images whose shorter side is 80 px"),
    ],
)
def test_what_has_no_errors_to_count_says_why(
    ran: Path, spp: Callable[..., Any], change: str, said: str
) -> None:
    args = ("errors", ran / "small.toml", "--serial", "--runs", ran / "none", "--set", change)
    answer = spp(*args)
    assert answer.code == 2, answer.out
    assert said in answer.err
    assert not (ran / "none" / "jobs").exists()


def test_a_detector_has_none(tiny: Path, spp: Callable[..., Any]) -> None:
    answer = spp("errors", tiny, "--serial", "--runs", tiny.parent / "runs")
    assert answer.code == 2
    assert "tiny detects objects in windows, and errors are of classifying images" in answer.err


def test_weights_for_other_classes_are_refused(
    ran: Path, spp: Callable[..., Any], tmp_path: Path
) -> None:
    networks.save(
        networks.load("zf5", width=0.1, fc_units=16, levels=(2, 1), classes=7),
        tmp_path / "seven.safetensors",
    )
    given = [f"network.weights={tmp_path / 'seven.safetensors'}", "errors.scales=[80]"]
    given = [word for change in (*given, "errors.crop_px=64") for word in ("--set", change)]
    answer = spp("errors", ran / "small.toml", "--serial", "--runs", tmp_path, *given)
    assert answer.code == 2, answer.err
    assert "zf5 gives scores of 7 classes, and the dataset has 10" in answer.err


FIGURES = {  # as the paper prints them: top-1 and top-5 errors, row by row
    "table1": ([35.99, 35.06, 34.98, 34.60, 34.16], [14.76, 14.04, 14.14, 13.64, 13.57]),
    "table2": ([38.01, 37.55, 37.57, 37.07], [None] * 4),
}


@pytest.mark.parametrize("name", FIGURES)
def test_shipped_tables_of_errors_print_the_papers_figures(name: str) -> None:
    _, file, _ = tables.read(name)
    top1, top5 = FIGURES[name]
    assert [row.paper for row in file.rows] == top1
    assert [row.paper_top5 for row in file.rows] == top5
    lines = [Line(row.name, 0.34567, 0.01, {}, None, None, 0.1) for row in file.rows]
    rows = [line for line in format_table(file, lines).splitlines() if line.startswith("| ")][2:]
    for row, one, five in zip(rows, top1, top5, strict=True):
        assert "34.57 ± 1.00" in row
        assert f"| {one:.2f} |" in row.replace("  ", " ")
        assert five is None or f"| {five:.2f} |" in row.replace("  ", " ")


def test_each_training_begins_elsewhere(ran: Path) -> None:
    recipe = options.load(str(ran / "small.toml"), None, None)
    begun = []
    for seed in (0, 1):
        other = recipe.pretrain.model_copy(update={"seed": seed})
        spec = pretrain.training_spec(recipe.model_copy(update={"pretrain": other}), ran)
        begun.append(begin(spec).state_dict()["conv1.weight"])
    assert not torch.equal(*begun)
