"""The reader of COCO's layout."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets import Object
from pipeline.datasets.coco import category_names, read_coco
from pipeline.errors import InputError

IMAGES = [
    {"id": 7, "file_name": "0007.jpg", "width": 100, "height": 80},
    {"id": 3, "file_name": "below/0003.jpg", "width": 50, "height": 40},
]
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}]
DOG = {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10.5, 20, 30, 40], "iscrowd": 0}


def write(root: Path, **changes: Any) -> Path:
    content = {"images": IMAGES, "categories": CATEGORIES, "annotations": [DOG], **changes}
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


def test_boxes_become_corners_and_crowds_are_difficult(tmp_path: Path) -> None:
    crowd = DOG | {"id": 2, "iscrowd": 1, "bbox": [0, 0, 100, 80], "category_id": 2}
    root = write(tmp_path, annotations=[DOG, crowd])
    (tmp_path / "val").mkdir()
    assert category_names(root, "val") == ("cat", "dog")  # by their numbers
    first, second = read_coco(root, "val", ("cat", "dog")).records
    assert (first.image_id, first.path) == ("0007", tmp_path / "val" / "0007.jpg")
    assert first.objects == (
        Object("dog", (10.5, 20.0, 40.5, 60.0)),
        Object("cat", (0.0, 0.0, 100.0, 80.0), difficult=True),
    )
    assert (second.image_id, second.objects) == ("below/0003", ())


def test_classes_that_are_not_asked_for_are_left_out(tmp_path: Path) -> None:
    assert read_coco(write(tmp_path), "val", ("cat",)).records[0].objects == ()


def test_a_box_may_leave_the_image_by_a_fraction_of_a_pixel(tmp_path: Path) -> None:
    root = write(tmp_path, annotations=[DOG | {"bbox": [-0.3, 0, 100.7, 80.5]}])
    assert read_coco(root, "val", ("dog",)).records[0].objects[0].box == (0, 0, 100, 80)


@pytest.mark.parametrize(
    ("bbox", "told"),
    [
        ([90, 0, 20, 10], "of an image of 100x80 leaves it"),
        ([1, 1, 0, 5], "is empty"),
        ([1, 1, "5", 5], "not four numbers"),
        ([1, 1, 5], "not four numbers"),
        ([1, 1, float("inf"), 5], "is not finite"),
        (None, "not four numbers"),
    ],
)
def test_boxes_that_cannot_be(tmp_path: Path, bbox: Any, told: str) -> None:
    root = write(tmp_path, annotations=[DOG | {"bbox": bbox}])
    with pytest.raises(InputError, match=f"object 1 .dog.*{told}.*skip_invalid"):
        read_coco(root, "val", ("dog",))
    read = read_coco(root, "val", ("dog",), skip_invalid=True)
    assert (len(read.skipped), read.records[0].objects) == (1, ())


@pytest.mark.parametrize(
    "name", ["../7.jpg", "/etc/7.jpg", "a/../../7.jpg", "a\0.jpg", "c:\\7.jpg", ""]
)
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, images=[IMAGES[0] | {"file_name": name}])
    with pytest.raises(InputError, match="names may not lead out"):
        read_coco(root, "val", ("dog",))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": [IMAGES[0], IMAGES[0]]}, "two images with id 7"),
        ({"images": [IMAGES[0], IMAGES[0] | {"id": 8}]}, "two images with file_name '0007.jpg'"),
        ({"images": []}, "is of image 7"),
        ({"images": [], "annotations": []}, "lists no image"),
        ({"images": {"id": 1}}, 'no list "images"'),
        ({"images": [IMAGES[0] | {"width": "wide"}]}, "width is 'wide'"),
        ({"images": [IMAGES[0] | {"height": 0}]}, "height is 0"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "twice"),
        ({"annotations": [DOG | {"category_id": 99}]}, "category 99"),
        ({"annotations": [DOG | {"image_id": None}]}, "image_id is None"),
    ],
)
def test_files_that_contradict_themselves(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        read_coco(write(tmp_path, **changes), "val", ("dog",))


def test_images_that_differ_in_their_suffix_keep_it(tmp_path: Path) -> None:
    images = [IMAGES[0], IMAGES[0] | {"id": 8, "file_name": "0007.png"}]
    records = read_coco(write(tmp_path, images=images), "val", ("dog",)).records
    assert [record.image_id for record in records] == ["0007.jpg", "0007.png"]


def test_no_such_set_and_no_json(tmp_path: Path) -> None:
    root = write(tmp_path)
    with pytest.raises(InputError, match=r"image sets in .* are val"):
        read_coco(root, "train", ("dog",))
    (root / "annotations" / "instances_bad.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_coco(root, "bad", ("dog",))
