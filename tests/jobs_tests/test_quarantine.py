"""Images that are left out: listed with their reasons, shown, and taken in once they are mended."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def broken(voc: Path) -> Path:
    """A training image that ends in the middle, and one of the test set that is no image."""
    image = voc / "JPEGImages/train_00005.jpg"
    image.with_suffix(".whole").write_bytes(whole := image.read_bytes())
    image.write_bytes(whole[: len(whole) // 2])
    (voc / "JPEGImages/test_00002.jpg").write_bytes(b"GIF87a? no")
    return image


def test_from_a_broken_image_to_a_mended_one(voc: Path, broken: Path, run_voc: Run) -> None:
    assert run_voc("extract").code == 3
    objects = (voc / "Annotations/train_00005.xml").read_text().count("<object>")
    listed = run_voc("quarantine")
    assert listed.code == 3
    lines = listed.out.splitlines()
    assert lines[0] == (
        f"train: 12 images in, 11 done, 1 quarantined, and with them {objects} labelled objects"
    )
    (row,) = [line for line in lines if "train_00005 " in line]
    assert "damaged JPEG file: " in row
    assert row.split()[1] == str(objects)
    assert row.rstrip().endswith(str(broken))

    told = {each["name"]: each for each in json.loads(run_voc("quarantine", "--json").out)}
    for name, images_in in (("train", 12), ("test", 8)):
        assert told[name]["images_in"] == images_in
        assert told[name]["images"] + len(told[name]["left_out"]) == images_in
    assert [each["image_id"] for each in told["test"]["left_out"]] == ["test_00002"]

    shown = run_voc("quarantine", "--image", "test_00002")
    assert shown.code == 3
    assert "GIF87a? no" in shown.out
    now = json.loads(run_voc("quarantine", "--image", "test_00002", "--json").out)["now"]
    assert (now["bytes"], now["size_px"]) == (10, None)

    nothing = run_voc("quarantine", "--retry")
    assert nothing.code == 3
    assert "train: 0 of 1 are not left out any more" in nothing.err

    broken.write_bytes(broken.with_suffix(".whole").read_bytes())
    changed = run_voc("quarantine")
    assert (
        "train: images, labels or the recipe have changed since: --retry takes them" in changed.err
    )
    assert "test: images" not in changed.err
    again = run_voc("quarantine", "--retry")
    assert again.code == 3  # the other one is as it was
    assert "train: 1 of 1 are not left out any more" in again.err
    assert "test: 0 of 1 are not left out any more" in again.err
    assert again.out.startswith("train: 12 images in, 12 done, 0 quarantined\n")


def test_a_store_is_looked_at_and_not_tried_again(
    broken: Path, run_voc: Run, spp: Run, refused: Run
) -> None:
    assert run_voc("extract").code == 3
    (store,) = (broken.parents[2] / "runs/jobs").glob("extract_test-*")
    listed = spp("quarantine", store)
    assert listed.code == 3
    assert listed.out.startswith(f"{store}: 8 images in, 7 done, 1 quarantined")
    refused(spp("quarantine", store, "--retry"), 1, "name the recipe")
    refused(spp("quarantine", store, "--image", "test_00001"), 1, "not among the 1 that were")


def test_before_there_are_features(run_voc: Run, refused: Run) -> None:
    refused(run_voc("quarantine"), 1, "voc has no finished features", "run spp extract")


@pytest.mark.usefixtures("broken")
def test_many_are_not_told_one_by_one(run_voc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.execution.LOST_SHOWN", 1)
    said = run_voc("extract")
    assert sum("quarantined: image" in line for line in said.err.splitlines()) == 1
    assert "quarantined: 1 more images" in said.err
    monkeypatch.setattr("jobs.quarantine.SHOWN", 0)
    assert "and 1 more: --json lists all" in run_voc("quarantine").out
