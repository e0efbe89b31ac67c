"""Nothing outside of a dataset's folder is read, whatever links in it lead to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import config
from pipeline.config.dataset import Role
from pipeline.datasets.catalogue import DatasetSpec, class_names, fingerprint, write_index
from pipeline.datasets.inside import Inside
from pipeline.errors import InputError

XML = "<annotation><size><width>9</width><height>8</height></size></annotation>"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 8)).save(path)


def voc(root: Path) -> dict[str, Any]:
    picture(root / "JPEGImages/a.jpg")
    for name, text in {"ImageSets/Main/train.txt": "a\n", "Annotations/a.xml": XML}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return {"kind": "voc", "classes": ("cat",)}


def voc_lists(root: Path) -> dict[str, Any]:
    settings = voc(root)
    (root / "ImageSets/Main/cat_train.txt").write_text("a 1\n")
    return settings


def coco(root: Path) -> dict[str, Any]:
    picture(root / "train/below/a.jpg")
    image = {"id": 1, "file_name": "below/a.jpg", "width": 9, "height": 8}
    content = {"images": [image], "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    (root / "annotations").mkdir()
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return {"kind": "coco"}


def folders(root: Path) -> dict[str, Any]:
    picture(root / "train/cat/a.jpg")
    picture(root / "train/dog/a.jpg")
    return {"kind": "folders"}


def parquet(root: Path) -> dict[str, Any]:
    picture(root / "a.jpg")
    rows = {"image": [(root / "a.jpg").read_bytes()] * 2, "label": ["cat", "dog"]}
    (root / "data").mkdir()
    pq.write_table(pa.table(rows), root / "data/train.parquet")
    return {"kind": "parquet"}


KINDS: list[tuple[Callable[[Path], dict[str, Any]], str, bool]] = [
    (voc, "JPEGImages/a.jpg", False),
    (voc, "JPEGImages", False),
    (voc, "Annotations/a.xml", False),
    (voc, "Annotations", False),
    (voc, "ImageSets/Main/train.txt", False),
    (voc, "ImageSets", False),
    (voc_lists, "ImageSets/Main/cat_train.txt", True),
    (coco, "train/below/a.jpg", False),
    (coco, "train/below", False),
    (coco, "annotations/instances_train.json", False),
    (folders, "train/cat/a.jpg", True),
    (folders, "train/cat", True),
    (folders, "train", True),
    (parquet, "data/train.parquet", True),
    (parquet, "data", True),
]


def read(root: Path, given: dict[str, Any], whole: bool, out: Path) -> int:
    """Do all that a run does with an image set."""
    dataset = config.Dataset(root=root, train="train", **given)
    role: Role = "train"
    spec = DatasetSpec(dataset, 0, role, whole)
    class_names(dataset)
    fingerprint(spec)
    return write_index(spec, out).images


@pytest.mark.parametrize(("make", "name", "whole"), KINDS)
def test_links_that_lead_out_are_refused_unless_told(
    tmp_path: Path, make: Callable[[Path], dict[str, Any]], name: str, whole: bool
) -> None:
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    root.mkdir()
    given = make(root)
    count = read(root, given, whole, tmp_path / "first")
    assert count
    (root / name).rename(elsewhere)
    (root / name).symlink_to(elsewhere)
    with pytest.raises(
        InputError, match=rf"{root}/.* leads out of .*, to {elsewhere}.*follow_links"
    ):
        read(root, given, whole, tmp_path / "second")
    assert not (tmp_path / "second/images.parquet").exists()
    assert read(root, given | {"follow_links": True}, whole, tmp_path / "third") == count
    # Inside of the folder a link may lead anywhere, and the folder itself may be reached by one.
    (root / name).unlink()
    elsewhere.rename(root / "moved")
    (root / name).symlink_to(root / "moved")
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link", given, whole, tmp_path / "fourth") == count


def test_a_folder_with_a_longer_name_is_another(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "database").mkdir()
    inside = Inside(tmp_path / "data")
    (tmp_path / "data/link").symlink_to(tmp_path / "database")
    with pytest.raises(InputError, match="leads out"):
        inside(tmp_path / "data/link")
    with pytest.raises(InputError, match="leads out"):
        inside(tmp_path / "data/../database/x.jpg")
