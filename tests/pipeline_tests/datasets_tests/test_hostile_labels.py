"""Annotations, names and tables of others: a result or a refusal, in bounded time and room."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import config, index
from pipeline.datasets import catalogue, parquet, read_voc, voc
from pipeline.datasets.coco import read_coco
from pipeline.datasets.folders import read_folders
from pipeline.errors import InputError
from pipeline.windows import read_parquet

SIZE = "<size><width>100</width><height>80</height></size>"


@pytest.fixture
def annotated(tmp_path: Path):
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    Image.new("L", (100, 80)).save(tmp_path / "JPEGImages/a.jpg")

    def read(xml: str | bytes, **options: Any) -> Any:
        data = xml if isinstance(xml, bytes) else xml.encode()
        (tmp_path / "Annotations/a.xml").write_bytes(data)
        return read_voc(tmp_path, "train", ("cat",), **options)

    return read


def an_object(xmin: str, xmax: str, name: str = "cat") -> str:
    box = f"<xmin>{xmin}</xmin><ymin>1</ymin><xmax>{xmax}</xmax><ymax>9</ymax>"
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><annotation/>', "DTD or entities"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "DTD or entities"),
        (f"<annotation>{SIZE.replace('100', '16777217')}</annotation>", "from 1 to 16,777,216"),
        (f"<annotation>{SIZE.replace('100', '9' * 5000)}</annotation>", "<size> says '9999"),
        (f"<annotation>{SIZE.replace('100', '１２')}</annotation>", "<size> says"),
        (f"<annotation>{SIZE}{an_object('nan', '9')}</annotation>", "is not finite"),
        (f"<annotation>{SIZE}{an_object('1', '1e999')}</annotation>", "is not finite"),
        (f"<annotation>{SIZE}{an_object('0', '9')}</annotation>", "leaves the image"),
        (f"<annotation>{SIZE}{an_object('1', '101')}</annotation>", "leaves the image"),
        (f"<annotation>{SIZE}{an_object('1', '2', 'x' * 9999)}</annotation>", "is a 'xxxx"),
        # As float32 keeps it, this box has no width.
        (f"<annotation>{SIZE}{an_object('18.00000001', '17.00000002')}</annotation>", "is empty"),
        (b"\xff\xfe<\0a\0", "not well-formed"),
        (b"<annotation>\0</annotation>", "not well-formed"),
        (b"<annotation>" + b" " * voc.MOST_XML_BYTES, "4,194,316 bytes, more than the 4,194,304"),
    ],
)
def test_annotations_that_are_refused(annotated, xml: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as refused:
        annotated(xml)
    assert len(str(refused.value)) < 600  # however long what it is about


def test_duplicates_windows_line_ends_and_other_encodings_are_read(annotated) -> None:
    text = f"<annotation>{SIZE}{an_object('1', '9') * 2}</annotation>"
    plain = annotated(text).records[0].objects
    assert plain[0] == plain[1]
    for data in (
        text.replace("><", ">\r\n<").encode(),
        text.encode("utf-16"),
        b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>' + text.encode(),
    ):
        assert annotated(data).records[0].objects == plain


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
def test_annotations_that_are_no_files(annotated, tmp_path: Path, make) -> None:
    make(tmp_path / "Annotations/a.xml")
    with pytest.raises(InputError, match=r"a\.xml"):
        read_voc(tmp_path, "train", ("cat",), follow_links=True)


def coco(root: Path, text: str) -> Any:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/instances_train.json").write_text(text)
    return read_coco(root, "train", ("cat",))


IMAGE = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}
CAT = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}


def content(image: Any = IMAGE, one: Any = CAT) -> str:
    category = {"id": 1, "name": "cat"}
    return json.dumps({"images": [image], "categories": [category], "annotations": [one]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
        (content(IMAGE | {"width": 1 << 31}), "from 1 to 16,777,216"),
        (content(IMAGE | {"width": 10**400}), "from 1 to 16,777,216"),
        (content(IMAGE | {"file_name": "x" * 300}), "up to 200 letters"),
        (content(IMAGE | {"file_name": "a\x1b[31m.jpg"}), "that can be printed"),
        (content(IMAGE | {"file_name": "\ud800.jpg"}), "that can be printed"),
        (content(IMAGE, CAT | {"bbox": [1, 1, 10**400, 5]}), "not four numbers"),
        (content(IMAGE, CAT | {"bbox": [15.00000001, 1, 1e-8, 5]}), "is empty"),
        (content(IMAGE, CAT | {"bbox": [float("nan"), 1, 1, 5]}), "is not finite"),
        (content(IMAGE, CAT | {"iscrowd": "0"}), "iscrowd is '0', neither 0 nor 1"),
        (content(IMAGE, CAT | {"image_id": "1"}), "is of image '1'"),
        (content(IMAGE | {"id": 1.5}), "id is 1.5"),
    ],
)
def test_coco_that_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as refused:
        coco(tmp_path, text)
    assert len(str(refused.value)) < 600


def test_one_file_under_two_spellings_is_named(tmp_path: Path) -> None:
    two = [IMAGE, IMAGE | {"id": 2, "file_name": "./a.jpg"}]
    text = json.dumps({"images": two, "categories": [], "annotations": []})
    with pytest.raises(InputError, match=r"two images with file_name 'a\.jpg'"):
        coco(tmp_path, text)


def test_crowds_polygons_and_run_lengths_are_read(tmp_path: Path) -> None:
    crowd = CAT | {"iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [80, 100]}}
    assert coco(tmp_path, content(IMAGE, crowd)).records[0].objects[0].difficult
    polygon = CAT | {"segmentation": [[1, 1, 5, 5, 1, 5]]}
    assert coco(tmp_path, content(IMAGE, polygon)).records[0].objects[0].box == (1, 1, 6, 6)
    unsaid = CAT | {"iscrowd": None}
    assert not coco(tmp_path, "\ufeff" + content(IMAGE, unsaid)).records[0].objects[0].difficult


def test_ids_may_be_names_if_all_are(tmp_path: Path) -> None:
    named = content(IMAGE | {"id": "1"}, CAT | {"image_id": "1"})
    assert len(coco(tmp_path, named).records[0].objects) == 1


@pytest.mark.parametrize("names", [("",), ("a\nb",), ("x" * 201,), ("\x1b[31m",), ("\ud800",)])
def test_classes_have_names_that_can_be_shown(names: tuple[str, ...]) -> None:
    dataset = config.Dataset(root=Path(), classes=("cat", *names))
    with pytest.raises(InputError, match="is no name of a class"):
        catalogue.class_names(dataset)


def test_names_of_all_languages_are_names() -> None:
    names = ("Bildschirmfoto 9\u202fUhr", "می\u200cشود", "全\u3000角", "chat noir", "$x^{$")
    dataset = config.Dataset(root=Path(), classes=names)
    assert catalogue.class_names(dataset) == names


def test_files_whose_names_are_no_text_are_counted(tmp_path: Path) -> None:
    for name in (b"cat/a.png", b"cat/\xff.png", b"dog/a.png"):
        path = os.path.join(os.fsencode(tmp_path), b"train", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.new("L", (9, 8)).save(os.fsdecode(path))
    found = read_folders(tmp_path, "train", ("cat", "dog"))
    assert [each.image_id for each in found.records] == ["train/cat/a", "train/dog/a"]
    assert found.skipped == ("1 files have names that are no text in UTF-8: rename them",)
    index.images_table(found.records, "train")


def table(root: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), root / "train.parquet", compression="zstd")


def test_a_small_table_that_would_fill_the_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parquet, "LEAST_ROOM_BYTES", 100_000)
    big = pa.DictionaryArray.from_arrays(np.zeros(90, np.int32), pa.array([b"\0" * 50_000]))
    table(tmp_path, image=big, label=["cat", "dog"] * 45)
    with pytest.raises(InputError, match="more than 20 times their own size"):
        parquet.read_parquet_images(tmp_path, "train", ("cat", "dog"), None, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) < 300_000


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_tables_that_are_no_files(tmp_path: Path, make) -> None:
    make(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="no file, but a folder, a pipe"):
        parquet.parquet_classes(tmp_path, "train", None)


def test_metadata_that_is_deep(tmp_path: Path) -> None:
    held = pa.table({"image": [b""], "label": ["cat"]})
    pq.write_table(
        held.replace_schema_metadata({"huggingface": "[" * 100_000}), tmp_path / "train.parquet"
    )
    assert parquet.parquet_classes(tmp_path, "train", None) == ("cat",)


BOX = {name: [float(k)] for k, name in enumerate(("x_min", "y_min", "x_max", "y_max"))}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image_id": ["a"], "window_id": [{"x": 1}]}, "not a Parquet file of windows"),
        ({"image_id": ["a"], "window_id": pa.array([None], pa.int32())}, "have no window_id"),
        ({"image_id": pa.array([None], pa.string())}, "1 nulls"),
        (
            {"image_id": pa.array([b"\xff"], pa.binary()).view(pa.string())},
            "not a Parquet file of windows",
        ),
    ],
)
def test_windows_that_are_refused(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    pq.write_table(pa.table(BOX | columns), tmp_path / "w.parquet")
    with pytest.raises(InputError, match=says):
        read_parquet(tmp_path / "w.parquet")
    with pytest.raises(InputError):
        read_parquet(tmp_path / "w.parquet", ["a"])
