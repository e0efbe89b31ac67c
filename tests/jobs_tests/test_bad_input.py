"""Bad data, networks and weights: refused in one sentence, or left out and counted."""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.networks import load, save

Run = Callable[..., Any]


def edit(voc: Path, image_id: str, **texts: str) -> None:
    """Change fields of an image's first object."""
    path = voc / "Annotations" / f"{image_id}.xml"
    tree = ElementTree.parse(path)
    for field, text in texts.items():
        element = tree.find(f".//object//{field}")
        assert element is not None
        element.text = text
    tree.write(path)


def with_object(voc: Path, split: str) -> str:
    """The first image of a set that has an object."""
    ids = (voc / f"ImageSets/Main/{split}.txt").read_text().split()
    return next(each for each in ids if "<object>" in (voc / f"Annotations/{each}.xml").read_text())


def summary(said: Any, job: str) -> dict:
    return next(row["summary"] for row in json.loads(said.out) if row["job"] == job)


def test_a_list_that_names_a_missing_image(voc: Path, run_voc: Run, refused: Run) -> None:
    (voc / "JPEGImages/train_00003.jpg").unlink()
    refused(run_voc("evaluate"), 1, "'train' lists train_00003", "add the image")


def test_a_class_that_the_recipe_does_not_know(voc: Path, run_voc: Run, refused: Run) -> None:
    image_id = with_object(voc, "test")
    edit(voc, image_id, name="zebra")
    refused(run_voc("evaluate"), 1, f"image {image_id}, object 1 is a 'zebra'", "10 classes")


def test_a_failed_run_leaves_its_reason_and_goes_on_when_that_is_mended(
    voc: Path, run_voc: Run, refused: Run
) -> None:
    annotation = voc / "Annotations/test_00002.xml"
    whole = annotation.read_bytes()
    annotation.write_bytes(whole[:100])
    said = run_voc("evaluate")
    refused(said, 1, "test_00002.xml is not well-formed XML")
    blocked = "windows_test, extract_test, detect, evaluate"
    assert f"not run, for they need it: {blocked}" in said.err
    rows = {row["job"]: row for row in json.loads(run_voc("status", "--json").out)}
    assert rows["dataset_test"]["state"] == "failed"
    assert "not well-formed" in rows["dataset_test"]["result"]
    assert "not well-formed" in " ".join(run_voc("status").out.split())
    error = Path(rows["dataset_test"]["folder"]) / "error.json"
    assert "Traceback" in json.loads(error.read_text())["traceback"]
    annotation.write_bytes(whole)
    assert run_voc("windows").code == 0


def test_a_box_outside_its_image(voc: Path, run_voc: Run, refused: Run) -> None:
    image_id = with_object(voc, "train")
    edit(voc, image_id, xmax="9999")
    refused(run_voc("evaluate"), 1, f"image {image_id}, object 1", "9999", "leaves the image")
    said = run_voc("evaluate", "--set", "dataset.skip_invalid=true", "--json")
    assert said.code == 0
    (skipped,) = summary(said, "dataset_train")["skipped"]
    assert image_id in skipped


def test_a_truncated_image_is_quarantined_and_the_counts_reconcile(voc: Path, run_voc: Run) -> None:
    image = voc / "JPEGImages/train_00005.jpg"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    said = run_voc("evaluate")
    assert said.code == 3
    assert "quarantined: image train_00005: " in said.err
    assert "mAP" in said.out
    again = run_voc("evaluate", "--json")
    assert again.code == 3
    extracted = summary(again, "extract_train")
    (quarantined,) = extracted["reasons"].items()
    assert quarantined[0] == "train_00005"
    assert quarantined[1]
    assert (extracted["images"], extracted["quarantined"]) == (11, 1)
    assert summary(again, "dataset_train")["images"] == 12
    folder = next(row["folder"] for row in json.loads(again.out) if row["job"] == "extract_train")
    totals = store.open(Path(folder) / "store").totals
    assert (totals.images_in, totals.images, totals.quarantined) == (12, 11, 1)


def test_an_image_without_windows_is_done(voc: Path, run_voc: Run, spp: Run) -> None:
    # Windows for all images but one, which has no object either.
    annotation = voc / "Annotations/test_00004.xml"
    tree = ElementTree.parse(annotation)
    for element in tree.getroot().findall("object"):
        tree.getroot().remove(element)
    tree.write(annotation)
    ids = [path.stem for path in (voc / "JPEGImages").iterdir() if path.stem != "test_00004"]
    columns = {"image_id": ids}
    for name, value in (("x_min", 0.0), ("y_min", 0.0), ("x_max", 50.0), ("y_max", 60.0)):
        columns[name] = pa.array([value] * len(ids), pa.float32())
    pq.write_table(pa.table(columns), voc.parent / "windows.parquet")
    chosen = ("--set", "windows.method=file", "--set", "windows.path=windows.parquet")
    said = run_voc("evaluate", *chosen, "--json")
    assert said.code == 0
    assert summary(said, "windows_test")["windows"] == 7
    assert summary(said, "extract_test")["images"] == 8
    assert summary(said, "evaluate")["mAP"] is not None
    root = voc.parent
    said = spp(
        "plan", root / "voc.toml", "--data", root, "--runs", root / "runs", *chosen, "--json"
    )
    assert [each["windows_are"] for each in json.loads(said.out)["stores"]] == ["counted"] * 2


def test_a_class_whose_images_are_all_quarantined_is_left_out(
    voc: Path, run_voc: Run, refused: Run
) -> None:
    shown = {
        file.stem: set(re.findall(r"<name>(\w+)</name>", file.read_text()))
        for file in (voc / "Annotations").glob("train_*.xml")
    }
    (torn, *_) = sorted(name for name, classes in shown.items() if classes)
    only = sorted(shown[torn])[0]
    for name in shown:  # whatever else shows it, shows another class now
        file = voc / "Annotations" / f"{name}.xml"
        if name != torn:
            other = "one" if only != "one" else "two"
            file.write_text(file.read_text().replace(f"<name>{only}<", f"<name>{other}<"))
    (image,) = (voc / "JPEGImages").glob(f"{torn}.*")
    image.write_bytes(image.read_bytes()[:100])
    said = run_voc("evaluate", "--set", "regression.enabled=true", "--json")
    assert said.code == 3, said
    assert summary(said, "train")["without"] == only
    known = {*summary(said, "evaluate")["ap"]}
    assert {only} < known  # judged all the same: what is to be found of it is missed
    assert summary(said, "evaluate")["ap"][only] in (0, None)
    *labelled, bare = shown
    for name in labelled:
        (image,) = (voc / "JPEGImages").glob(f"{name}.*")
        image.write_bytes(b"torn")
    file = voc / "Annotations" / f"{bare}.xml"
    file.write_text(re.sub(r"<object>.*</object>", "", file.read_text(), flags=re.DOTALL))
    refused(
        run_voc("train"), 1, "all labelled images of", "are quarantined: see spp quarantine voc"
    )


def test_a_class_without_positives_is_named(voc: Path, run_voc: Run, refused: Run) -> None:
    recipe = voc.parent / "voc.toml"
    recipe.write_text(recipe.read_text().replace('"nine"]', '"nine", "zebra", "yak"]'))
    said = run_voc("evaluate")
    refused(said, 1, "2 of 12 classes have no positive window", "zebra, yak", "dataset.classes")
    assert "not run, for they need it: mine, detect, evaluate" in said.err
    assert "without objects zebra, yak" in said.err  # before anything is extracted


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["network.weights=nowhere.safetensors"], "there is no file"),
        (["network.name=resnet9"], "choose among zf5, plain_zf5"),
        (["features.layer=fc7", "network.fc7_rank=17"], "fc7_rank is 17: fc7 has 16x16 weights"),
        (["network.preprocessing=imagenet_bgr"], "choose among imagenet_rgb, caffe_bgr"),
    ],
)
def test_a_network_that_is_not_there_is_told_before_any_job(
    run_voc: Run, settings: list[str], says: str, refused: Run
) -> None:
    said = run_voc("evaluate", *(each for one in settings for each in ("--set", one)))
    refused(said, 2, says)
    assert "✓" not in said.err


def test_weights_of_the_wrong_shape_are_named_with_both_shapes(voc: Path, run_voc: Run) -> None:
    weights = voc.parent / "narrow.safetensors"
    save(load("zf5", width=0.2, fc_units=16, levels=(2, 1)), weights)
    said = run_voc("extract", "--set", "network.weights=narrow.safetensors")
    failed = [line for line in said.err.splitlines() if line.startswith("✗")]
    assert said.code == 1
    assert len(failed) == 2  # train and test each say so
    for part in ("conv1", "(19, 3, 7, 7)", "(10, 3, 7, 7)"):
        assert part in failed[0]


def test_weights_are_those_that_the_recipe_was_written_for(
    voc: Path, run_voc: Run, refused: Run
) -> None:
    weights = voc.parent / "zf5.safetensors"
    save(load("zf5", seed=1, width=0.1, fc_units=16, levels=(2, 1)), weights)
    held = sha256(weights.read_bytes()).hexdigest()
    chosen = ("--set", "network.weights=zf5.safetensors", "--set")
    said = run_voc("extract", *chosen, f"network.sha256={'0' * 64}")
    refused(said, 2, f"network.sha256 is {'0' * 64}", f"zf5.safetensors has {held}")
    assert run_voc("extract", *chosen, f"network.sha256={held}").code == 0
    plain = run_voc("extract", *chosen[:2], "--json")
    assert plain.code == 0
    assert {row["state"] for row in json.loads(plain.out)[:5]} == {"done"}  # the same folders
    folders = {path.name for path in (voc.parent / "runs/jobs").glob("extract_train-*")}
    assert len(folders) == 1
    refused(run_voc("extract", "--set", f"network.sha256={held}"), 2, "network.sha256 is of a")


def test_a_layer_that_the_network_lacks_is_the_recipes_fault(
    voc: Path, run_voc: Run, refused: Run
) -> None:
    recipe = voc.parent / "voc.toml"
    text = (voc.parent / "tiny.toml").read_text()
    network = '[network]\nname = "zf5"\nwidth = 0.1\nfc_units = 16'
    (voc.parent / "tiny.toml").write_text(
        text.replace(network, '[network]\nname = "squeezenet1_1"').replace(
            "[features]", '[features]\nlayer = "fc7"'
        )
    )
    assert recipe.exists()
    said = run_voc("extract")
    refused(said, 2, "squeezenet1_1 has no layer 'fc7': choose among pool5")
    assert "✓" not in said.err
