"""From folders of images to classifiers, to a model, and to answers about other images."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import dag, options, steps
from pipeline import index, networks, store
from pipeline.classification import ReportSpec, illustrate
from pipeline.classification.judging import JUDGED
from pipeline.classification.predictions import PREDICTIONS, write_predictions
from pipeline.report.page import image_results
from pipeline.store.files import read_json, write_json
from tests.colours import COLOURS, paint, write_colours


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classification")
    write_colours(folder)
    return folder


@pytest.fixture
def recipe(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made / "colours.toml"


def folder_of(recipe: Path, job: str, *changes: str) -> Path:
    known = options.load(str(recipe), list(changes), None)
    return dag.plan(steps.jobs_of(known), known, recipe.parent / "runs")[job].folder


def test_a_run_classifies_and_shows_who_is_taken_for_whom(
    recipe: Path, spp: Callable[..., Any]
) -> None:
    done = spp("run", recipe, "--serial", "--runs", "runs")
    assert done.code == 0, done.err
    assert "colours: accuracy of the mean class 1.000, mAP 1.000" in done.out
    assert "| **mean** | **100.0** | **100.0** |" in done.out
    rows = pq.read_table(folder_of(recipe, "evaluate") / "test" / PREDICTIONS).to_pylist()
    assert {row["image_id"] for row in rows} == {f"test/{c}/{n}" for c in COLOURS for n in range(4)}
    for row in rows:
        assert row["shown"] == [row["taken_for"]] == [row["image_id"].split("/")[1]]
        assert row["score"] == max(row["scores"])
    report = folder_of(recipe, "report")
    for name in ("classes.txt", "confusion.svg", "confusion.png", "mistakes.png"):
        assert (report / name).stat().st_size > 0, name
    held = store.open(folder_of(recipe, "extract_train") / "store")
    assert len(held) == 18
    assert set(held.objects["class"].to_pylist()) == set(COLOURS)


def test_random_splits_have_means_and_deviations(recipe: Path, spp: Callable[..., Any]) -> None:
    changes = ["classification.random_splits=3", "classification.train_per_class=2"]
    given = [word for change in changes for word in ("--set", change)]
    done = spp("evaluate", recipe, "--serial", "--runs", "runs", *given)
    assert done.code == 0, done.err
    assert "± 0.000, mAP 1.000 ± 0.000 (3 random splits)" in done.out
    folder = folder_of(recipe, "evaluate", *changes)
    for number in range(3):
        told = read_json(folder / f"{number:02d}" / JUDGED)
        assert told is not None
        assert np.trace(told["confusion"]) == 12  # 6 of a class, but for 2 that were learnt from


def test_each_image_is_shown_once_with_its_most_confident_mistake(tmp_path: Path) -> None:
    names, labels = ("cat", "dog"), np.array([[1, -1], [-1, 1], [1, -1]], np.int8)
    for number, wrong in enumerate((0.5, 2.0)):
        scores = np.array([[0, wrong], [0, 1], [1, 0]], np.float32)
        place = tmp_path / f"{number}" / PREDICTIONS
        write_predictions(place, ["a", "b", "c"], labels, scores, names)
        write_json(
            tmp_path / f"{number}" / JUDGED,
            {"confusion": [[1, 1], [0, 1]], "class_accuracy": {"cat": 0.5, "dog": 1.0}}
            | {"ap": {"cat": 1.0, "dog": 1.0}},
        )
    sizes = dict.fromkeys(("width", "height", "bytes", "modified_ns"), 8)
    rows = [
        {"image_id": name, "file": str(tmp_path / f"{name}.png"), "split": "train", **sizes}
        for name in "abc"
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=index.IMAGES), tmp_path / "images.parquet")
    paint(tmp_path / "a.png", (9, 9, 9), 0)
    judged = (tmp_path / "0", tmp_path / "1")
    spec = ReportSpec(judged, tmp_path / "images.parquet", names, 5, "voc07")
    assert illustrate(spec, tmp_path / "out").mistakes == 1
    with Image.open(tmp_path / "out" / "mistakes.png") as sheet:
        assert sheet.width > 400  # its title is not cut
    told = image_results.read(tmp_path / "out")
    assert (told.unopened, told.mean_accuracy) == (2, 0.75)  # b and c are no files
    assert told.confusion is not None
    assert told.confusion.counts == ((2, 2), (0, 2))
    (wrong, _) = told.galleries["cat"]
    assert [(one.image_id, one.caption) for one in wrong.thumbnails] == [("a", "dog, by 2.00")]


def test_a_model_answers_as_the_run_did_to_the_bit(
    recipe: Path, spp: Callable[..., Any], tmp_path: Path
) -> None:
    packed = spp("model", recipe, "--serial", "--runs", "runs", "--out", tmp_path / "model")
    assert packed.code == 0, packed.err
    out = tmp_path / "answers.parquet"
    asked = (recipe.parent / "colours" / "test", "--model", tmp_path / "model", "--out", out)
    done = spp("classify", *asked, "--serial", "--runs", tmp_path, "--top", 2)
    assert done.code == 0, done.err
    assert "blue/0: blue " in done.out
    found = pq.read_table(out).to_pylist()
    assert len(found) == 24
    spp("run", recipe, "--serial", "--runs", "runs")
    rows = pq.read_table(folder_of(recipe, "evaluate") / "test" / PREDICTIONS).to_pylist()
    known = {row["image_id"]: row for row in rows}
    for row in found[::2]:
        own = known[f"test/{row['image_id']}"]
        assert (row["class"], row["score"]) == (own["taken_for"], own["score"])
    as_csv = spp("classify", *asked[:-1], tmp_path / "a.csv", "--serial", "--runs", tmp_path)
    assert as_csv.code == 0
    with (tmp_path / "a.csv").open() as file:
        assert next(csv.reader(file)) == ["image_id", "class", "score"]
    told = spp("classify", *asked[:-2], "--serial", "--runs", tmp_path, "--json")
    assert json.loads(told.out)["images"]["blue/0"][0]["class"] == "blue"


def test_scores_in_sql_are_those_of_the_run(recipe: Path, spp: Callable[..., Any]) -> None:
    assert spp("run", recipe, "--serial", "--runs", "runs").code == 0
    query = "SELECT image_id, score('red', vector) AS s FROM windows ORDER BY s DESC LIMIT 4"
    done = spp("query", f"{recipe}:test", query, "--runs", "runs", "--json")
    assert done.code == 0, done.err
    rows = pq.read_table(folder_of(recipe, "evaluate") / "test" / PREDICTIONS).to_pylist()
    known = {row["image_id"]: row["scores"][2] for row in rows}
    for row in json.loads(done.out):
        assert row["image_id"].startswith("test/red/")
        assert row["s"] == pytest.approx(known[row["image_id"]], abs=1e-5)


def test_a_folder_and_weights_are_enough(
    made: Path, spp: Callable[..., Any], tmp_path: Path
) -> None:
    networks.save(networks.load("squeezenet1_1", seed=1), tmp_path / "squeezenet.safetensors")
    given = ("--weights", tmp_path / "squeezenet.safetensors", "--serial", "--side", 64)
    done = spp("train-classifier", made / "colours", *given, "--runs", tmp_path / "runs")
    assert done.code == 0, done.err
    model = tmp_path / "runs" / "colours" / "model"
    assert f"spp classify IMAGES... --model {model}" in done.out
    one = made / "colours" / "test" / "green" / "1.png"
    told = spp("classify", one, "--model", model, "--serial", "--runs", tmp_path / "runs")
    assert told.out.startswith("1: green "), told.out
    alone = spp("train-classifier", made / "colours" / "train", *given, "--runs", tmp_path / "runs")
    assert alone.code == 0, alone.err
    assert "(5 random splits)" in alone.out


def test_an_image_that_cannot_be_read_is_set_aside_by_name(
    made: Path, recipe: Path, spp: Callable[..., Any]
) -> None:
    broken = made / "colours" / "test" / "red" / "broken.png"
    broken.write_bytes(b"no image")
    try:
        done = spp("run", recipe, "--serial", "--runs", "runs")
        assert done.code == 3
        assert "quarantined: image test/red/broken: " in done.err
        known = folder_of(recipe, "evaluate") / "test" / PREDICTIONS
        assert len(pq.read_table(known)) == 12
        html = (made / "runs" / "colours" / "report.html").read_text(encoding="utf-8")
        assert re.search(r"<th>test</th><td class=\"text\">test/red/broken</td>", html)
    finally:
        broken.unlink()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mine", "{recipe}"), "classifies whole images, and mine is of detection"),
        (
            ("run", "{recipe}", "--set", "dataset.classes=[red, blue, pink]"),
            r"dataset.classes",
        ),
        (("run", "{recipe}", "--set", "dataset.test=val"), "no image set 'val' in"),
        (("run", "{recipe}", "--set", "features.view=windows"), 'features.view "windows"'),
        (("run", "{recipe}", "--set", "task=detection"), "dataset.kind"),
        (("run", "{recipe}", "--set", "regression.enabled=true"), "learn from windows"),
        (("train-classifier", "nowhere", "--weights", "w.pth"), "there is no folder nowhere"),
        (("train-classifier", "colours", "--weights", "w.pth"), "no weights file w.pth"),
        (("train-classifier", "runs", "--weights", "colours.toml"), "weights are .safetensors"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    recipe: Path, spp: Callable[..., Any], words: tuple[str, ...], told: str
) -> None:
    Path("runs").mkdir(exist_ok=True)
    given = [word.format(recipe=recipe) for word in words]
    if words[0] != "train-classifier":
        given += ["--serial", "--runs", "runs"]
    done = spp(*given)
    assert done.code in (1, 2)
    assert told in done.err, done.err
    assert "Traceback" not in done.err


def test_models_of_the_other_task_are_refused(
    recipe: Path, spp: Callable[..., Any], tmp_path: Path
) -> None:
    packed = spp("model", recipe, "--serial", "--runs", "runs", "--out", tmp_path / "model")
    assert packed.code == 0, packed.err
    image = recipe.parent / "colours" / "test" / "red" / "0.png"
    done = spp("detect", image, "--model", tmp_path / "model", "--serial", "--runs", tmp_path)
    assert done.code == 1
    assert "is of classification, not of detection: give it to spp classify --model" in done.err


FROM_NOTHING = (
    *("network.weights=pretrain", "pretrain.epochs=6", "pretrain.sides_px=[96, 80]"),
    *("pretrain.resized_px=100", "pretrain.batch_size=6", "pretrain.learning_rate=0.02"),
    *("pretrain.held_out=0.2", "pretrain.decode_threads=2"),
)


@pytest.mark.parametrize("network", ["zf5", "squeezenet1_1"])
def test_a_network_of_its_own_is_trained_on_the_images(
    recipe: Path, spp: Callable[..., Any], network: str
) -> None:
    changes = [*FROM_NOTHING, f"network.name={network}"]
    if network != "zf5":
        changes += ["features.layer=fc7"]
    text = recipe.read_text() if network == "zf5" else recipe.read_text().replace("width = 0.1", "")
    own = recipe.with_name(f"own_{network}.toml")
    own.write_text(text.replace('name = "colours"', f'name = "own_{network}"'))
    given = [word for change in changes for word in ("--set", change)]
    done = spp("run", own, "--serial", "--runs", "runs", *given)
    assert done.code == 0, done.err
    folder = folder_of(own, "pretrain", *changes)
    summary = (read_json(folder / "done.json") or {})["summary"]
    assert summary["epochs"] == 6
    assert [part["side_px"] for part in summary["history"]] == [96, 80, 96, 80, 96, 80]
    assert summary["history"][-1]["loss"] < summary["history"][0]["loss"]
    names = pq.read_table(folder / "crops.parquet")["name"].to_pylist()
    assert sorted(names) == sorted(f"train/{c}/{n}" for c in COLOURS for n in range(6))
    assert (folder / "learning.svg").stat().st_size > 0
    html = (own.parent / "runs" / own.stem / "report.html").read_text(encoding="utf-8")
    assert "Training from nothing: cross-entropy" in html
    trained = networks.load(network, folder / "network.safetensors")
    assert trained.layers == ("pool5", "fc6", "fc7")
    again = spp("pretrain", own, "--serial", "--runs", "runs", *given)
    assert re.search(r"pretrain +done", again.err), again.err
