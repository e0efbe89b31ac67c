"""From the recipe's dataset to the two tables of a run."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import config, index
from pipeline.datasets.catalogue import DatasetSpec, class_names, fingerprint, write_index
from pipeline.datasets.digits_scans import DIGIT_CLASSES
from pipeline.datasets.voc import VOC_CLASSES
from pipeline.errors import InputError

OBJECT = (
    "<object><name>{}</name>"
    "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
)


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "voc"
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("b\na\n")
    (root / "ImageSets/Main/test.txt").write_text("c\n")
    held = {"a": [("cat", 1)], "b": [("cat", 2), ("dog", 3)], "c": [("dog", 4)]}
    for name, objects in held.items():
        size = "<size><width>10</width><height>8</height></size>"
        xml = "".join(OBJECT.format(*one) for one in objects)
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{xml}</annotation>")
        Image.new("L", (10, 8)).save(root / f"JPEGImages/{name}.jpg")
    return root


def spec(root, role="train", **options):
    options = {"train": "train", "classes": ("cat", "dog"), **options}
    return DatasetSpec(config.Dataset(root=root, **options), seed=0, role=role)


def read(folder):
    return [pq.read_table(folder / f"{name}.parquet") for name in ("images", "objects")]


def test_each_image_set_in_list_order(voc, tmp_path):
    stats = write_index(spec(voc), tmp_path / "out")
    assert (stats.images, stats.objects, stats.without_objects) == (2, 3, "")
    assert (stats.classes, stats.skipped) == (2, [])
    images, objects = read(tmp_path / "out")
    assert images["image_id"].to_pylist() == ["b", "a"]
    assert images["split"].to_pylist() == ["train", "train"]
    assert index.files(images)["a"] == voc / "JPEGImages/a.jpg"
    assert objects["image_id"].to_pylist() == ["b", "b", "a"]
    assert objects["x_min"].to_pylist() == [1, 2, 0]
    stats = write_index(spec(voc, "test"), tmp_path / "out")
    assert (stats.images, stats.objects, stats.without_objects) == (1, 1, "cat")
    images, objects = read(tmp_path / "out")
    assert images["image_id"].to_pylist() == ["c"]
    assert images["split"].to_pylist() == ["test"]
    assert objects["class"].to_pylist() == ["dog"]


def test_invalid_objects_stop_or_are_listed(voc, tmp_path):
    path = voc / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmax>9<", "<xmax>99<"))
    with pytest.raises(InputError, match=r"\ba\b.*9[89]"):
        write_index(spec(voc), tmp_path / "out")
    assert not (tmp_path / "out/images.parquet").exists()
    stats = write_index(spec(voc, skip_invalid=True), tmp_path / "out")
    assert stats.objects == 2
    assert len(stats.skipped) == 1
    assert "a" in stats.skipped[0]


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_index(spec(tmp_path / "nowhere"), tmp_path / "out")


def test_digits_are_made_on_the_spot(tmp_path):
    dataset = config.Dataset(kind="digits", train="train", train_images=2, test_images=1)
    test = write_index(DatasetSpec(dataset, seed=3, role="test"), tmp_path / "test")
    assert (test.images, test.classes) == (1, 10)
    stats = write_index(DatasetSpec(dataset, seed=3, role="train"), tmp_path / "one")
    assert (stats.images, stats.classes) == (2, 10)
    write_index(DatasetSpec(dataset, seed=3, role="train"), tmp_path / "other")
    (_, one), (_, other) = read(tmp_path / "one"), read(tmp_path / "other")
    assert one == other
    assert stats.objects == len(one)


def test_a_fingerprint_is_of_one_image_set_and_its_class_lists(voc):
    lists = voc / "ImageSets/Main"
    specs = [replace(spec(voc, role), whole_images=True) for role in ("train", "test")]
    before = [fingerprint(each) for each in specs]
    (lists / "cat_test.txt").write_text("c -1\n")
    (lists / "bird_train.txt").write_text("a 1\nb 1\n")  # of no class
    after = [fingerprint(each) for each in specs]
    assert after[0] == before[0]
    assert after[1] != before[1]
    (lists / "dog_train.txt").write_text("a 1\nb 1\n")
    assert fingerprint(specs[0]) != after[0]


@pytest.mark.parametrize("folder", ["train", "images", "."])
def test_a_fingerprint_of_coco_is_of_the_images_that_its_file_lists(tmp_path, folder):
    (tmp_path / "annotations").mkdir()
    for name in ("train", "test"):
        listed = [{"id": 1, "file_name": f"of_{name}.jpg", "width": 9, "height": 9}]
        content = {"images": listed, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
        (tmp_path / f"annotations/instances_{name}.json").write_text(json.dumps(content))
    (tmp_path / folder).mkdir(exist_ok=True)
    own = tmp_path / folder / "of_train.jpg"
    own.write_bytes(b"1")
    known = DatasetSpec(config.Dataset(kind="coco", root=tmp_path, train="train"), 0, "train")
    before = fingerprint(known)
    others = tmp_path / ("test" if folder == "train" else folder)
    others.mkdir(exist_ok=True)
    (others / "of_test.jpg").write_bytes(b"2")
    (tmp_path / "annotations/instances_test.json").write_text("{}")
    assert fingerprint(known) == before
    own.write_bytes(b"one")
    assert fingerprint(known) != before


def test_class_names():
    assert class_names(config.Dataset(kind="digits")) == DIGIT_CLASSES
    assert class_names(config.Dataset(root="x")) == VOC_CLASSES
    assert class_names(config.Dataset(root="x", classes=("a",))) == ("a",)
