"""Images that nobody has labelled: features of a plain folder, and classes taught from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import parse
from pipeline.datasets.folders import read_images
from pipeline.errors import InputError, RecipeError

Run = Callable[..., Any]

ALBUM = """
extends = "tiny.toml"
name = "album"
[dataset]
kind = "images"
root = "photos"
train = "."
[network]
weights = "random"
"""


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 90, 3), np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images in a folder and below, of equal names, one torn, and what is none."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(["a.png", "b.jpg", "trip/a.png", "trip/c.jpg", ".hidden.jpg"]):
        picture(folder / name, seed)
    picture(folder / ".thumbnails" / "a.png", 5)
    (folder / "torn.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_every_image_below_is_read(photos: Path) -> None:
    found = read_images(photos, ".")
    assert [each.image_id for each in found.records] == ["a", "b", "torn", "trip/a", "trip/c"]
    assert [(each.width, each.objects) for each in found.records[:2]] == [(90, ())] * 2
    assert found.records[2].width == 0  # extraction quarantines it, with its reason
    assert found.skipped == ("1 files are no images by their names",)
    assert [each.image_id for each in read_images(photos, "trip").records] == ["trip/a", "trip/c"]
    picture(photos / "a.jpg", 9)
    named = [each.image_id for each in read_images(photos, ".").records]
    assert named == ["a.jpg", "a.png", "b.jpg", "torn.jpg", "trip/a.png", "trip/c.jpg"]
    assert len(read_images(photos, "trip+.").records) == 6  # none twice


def test_what_is_no_folder_of_images_is_told(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_images(tmp_path / "none", ".")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no image \(known are .*\.png"):
        read_images(tmp_path / "empty", ".")
    (photos / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    picture(tmp_path / "secret.jpg", 1)
    with pytest.raises(InputError, match=r"out\.jpg"):
        read_images(photos, ".")
    assert len(read_images(photos, ".", follow_links=True).records) == 6


@pytest.mark.parametrize(
    "changes",
    [{"task": "classification"}, {"network": {"weights": "pretrain"}},
     {"features": {"layer": "ftfc7"}}, {"regression": {"enabled": True}}],
)  # fmt: skip
def test_nothing_is_learnt_without_labels(changes: dict[str, Any]) -> None:
    album = {"name": "album", "dataset": {"kind": "images", "root": "photos"}}
    assert parse(album).roles == ("train",)
    with pytest.raises(
        RecipeError, match=r"learns from labels, and dataset\.kind = \"images\" has no"
    ):
        parse({**album, **changes})


def test_features_of_a_plain_folder_are_asked_and_taught(
    photos: Path, tiny: Path, spp: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos.parent
    (folder / "tiny.toml").write_text(tiny.read_text())
    (folder / "album.toml").write_text(ALBUM)
    monkeypatch.chdir(folder)
    planned = spp("plan", "album.toml")
    assert (planned.code, "4 train" in planned.out, "caches" in planned.out) == (0, True, False)
    ran = spp("run", "album.toml", "--serial")
    assert (ran.code, "recall" in ran.err, "next: spp serve" in ran.out) == (3, False, True)
    assert "left out: 1 files are no images by their names" in planned.err
    again = spp("run", "album.toml", "--serial", "--json")
    jobs = {row["job"]: row["state"] for row in json.loads(again.out)}
    assert jobs == dict.fromkeys(["dataset_train", "windows_train", "extract_train"], "done")
    asked = "SELECT DISTINCT image_id FROM windows ORDER BY 1"
    rows = json.loads(spp("query", "album.toml:train", asked, "--json").out)
    assert [row["image_id"] for row in rows] == ["a", "b", "trip/a", "trip/c"]
    taught = spp("new", "thing", "album.toml:train", "--box", "trip/a:0,0,40,40", "--top", "2")
    assert (taught.code, "'thing', version 1: 1 positives" in taught.out) == (0, True)
    assert spp("status", "album.toml").out.count("done") == 3
    left_out = spp("quarantine", "album.toml")
    assert (left_out.code, "5 images in, 4 done, 1 quarantined" in left_out.out) == (3, True)
    refused = spp("train", "album.toml", "--serial")
    assert (refused.code, "and train needs labels" in refused.err) == (2, True)
    refused = spp("report", "album.toml", "--serial")
    assert (refused.code, "and report needs labels" in refused.err) == (2, True)
    refused = spp("query", "album.toml:test", "SELECT 1")
    assert (refused.code, "has no test images" in refused.err) == (1, True)
