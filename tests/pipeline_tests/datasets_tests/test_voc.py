from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import VOC_CLASSES, Object, read_voc
from pipeline.errors import InputError

BOX = (11, 21, 30, 50)


def an_object(name="cat", box=BOX, extra=""):
    sides = "".join(
        f"<{side}>{value}</{side}>"
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def annotation(*objects, size="<size><width>100</width><height>80</height></size>"):
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def make(root, listed="000005\n", suffix=".jpg", **annotations):
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text(listed)
    for name, xml in (annotations or {"a000005": annotation(an_object())}).items():
        (root / "Annotations" / f"{name[1:]}.xml").write_text(xml)
        Image.new("L", (100, 80)).save(root / "JPEGImages" / f"{name[1:]}{suffix}")
    return root


def read(root, **options):
    return read_voc(root, "train", ("cat", "dog"), **options)


def test_one_based_inclusive_becomes_zero_based_half_open(tmp_path):
    extra = "<truncated>1</truncated><difficult>0</difficult>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    xml = annotation(an_object(extra=extra + part), an_object("dog", (1, 1, 100, 80)))
    (record,) = read(make(tmp_path, a000005=xml)).records
    assert record.image_id == "000005"
    assert record.path == tmp_path / "JPEGImages/000005.jpg"
    assert (record.width, record.height) == (100, 80)
    assert record.objects == (
        Object("cat", (10.0, 20.0, 30.0, 50.0), difficult=False, truncated=True),
        Object("dog", (0.0, 0.0, 100.0, 80.0)),
    )
    assert record.boxes.dtype == np.float32
    assert record.boxes.tolist() == [[10, 20, 30, 50], [0, 0, 100, 80]]


def test_fractions_of_a_pixel_are_kept(tmp_path):
    xml = annotation(an_object(box=(45.75, 1, 60.5, 2)))
    assert read(make(tmp_path, a000005=xml)).records[0].objects[0].box == (44.75, 0, 60.5, 2)


def test_a_box_one_pixel_wide_is_valid(tmp_path):
    xml = annotation(an_object(box=(7, 7, 7, 7)))
    assert read(make(tmp_path, a000005=xml)).records[0].objects[0].box == (6, 6, 7, 7)


def test_images_without_objects_are_kept_in_list_order(tmp_path):
    root = make(
        tmp_path, "b\n\n a  1\nc -1\n", aa=annotation(), ab=annotation(), ac=annotation(an_object())
    )
    records = read(root).records
    assert [record.image_id for record in records] == ["b", "a", "c"]
    assert [len(record.objects) for record in records] == [0, 0, 1]
    assert records[0].boxes.shape == (0, 4)


@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".JPG"])
def test_other_image_files(tmp_path, suffix):
    assert read(make(tmp_path, suffix=suffix)).records[0].path.name == f"000005{suffix}"


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_without_a_size_the_header_of_the_file_is_asked(tmp_path, size):
    record = read(make(tmp_path, a000005=annotation(size=size))).records[0]
    assert (record.width, record.height) == (100, 80)


def test_without_a_size_a_broken_image_is_named(tmp_path):
    root = make(tmp_path, a000005=annotation(size=""))
    (root / "JPEGImages/000005.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match=r"image 000005 has no <size> and .*not an image"):
        read(root)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((11, 21, 10, 50), "empty or reversed"),
        ((11, 21, 3, 50), "empty or reversed"),
        (("nan", 21, 30, 50), "not finite"),
        ((11, 21, "inf", 50), "not finite"),
        ((0, 21, 30, 50), "leaves the image"),
        ((11, 21, 101, 50), "leaves the image"),
        ((11, 21, 30, 81), "leaves the image"),
    ],
)
def test_invalid_boxes_name_image_object_and_size_or_are_skipped(tmp_path, box, problem):
    root = make(tmp_path, a000005=annotation(an_object("dog"), an_object(box=box)))
    with pytest.raises(
        InputError, match=rf"image 000005, object 2 \(cat\): box .* {problem}.*100x80.*skip_invalid"
    ):
        read(root)
    split = read(root, skip_invalid=True)
    assert [one.class_name for one in split.records[0].objects] == ["dog"]
    assert len(split.skipped) == 1
    assert "image 000005, object 2" in split.skipped[0]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (annotation(an_object("cow")), r"image 000005, object 1 is a 'cow'.* 2 classes: add it"),
        (annotation(an_object(box=("x", 1, 2, 3))), r"object 1: <bndbox/xmin> is 'x', not a num"),
        (annotation("<object><name>cat</name></object>"), r"<bndbox/xmin> is None"),
        (annotation(an_object(extra="<difficult>2</difficult>")), r"<difficult> is '2'"),
        (annotation(size="<size><width>-3</width><height>9</height></size>"), r"says '-3'x'9'"),
        ("<annotation>", r"000005\.xml is not well-formed XML"),
        ("<boxes/>", r"must be <annotation>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', r"DTD or entities"),
    ],
)
def test_bad_annotations_are_named(tmp_path, xml, message):
    with pytest.raises(InputError, match=message):
        read(make(tmp_path, a000005=xml), skip_invalid=True)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("", "lists no image"),
        ("000005\n000006\n", r"lists 000006, but .*JPEGImages has no 000006\{\.jpg"),
        ("000005\n000005\n", "lists 000005 twice, in lines 1 and 2"),
        ("000005 7\n", "line 1 reads '000005 7'"),
        ("my image.jpg here\n", "line 1 reads"),
        ("../000005\n", "line 1: image id '../000005' is not a plain file name"),
        ("..\n", "not a plain file name"),
        ("/etc/passwd\n", "not a plain file name"),
        ("a\\b\n", "not a plain file name"),
        ("a\0b\n", "not a plain file name"),
    ],
)
def test_bad_lists_are_named(tmp_path, listed, message):
    with pytest.raises(InputError, match=message):
        read(make(tmp_path, listed))


def test_a_list_that_is_not_text(tmp_path):
    root = make(tmp_path)
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="cannot be read as a text"):
        read(root)


def test_missing_annotation(tmp_path):
    root = make(tmp_path)
    (root / "Annotations/000005.xml").unlink()
    with pytest.raises(InputError, match=r"image 000005 has no annotation .*000005\.xml: add it"):
        read(root)


def test_missing_folders_and_lists_say_what_there_is(tmp_path):
    root = make(tmp_path / "VOC2007")
    with pytest.raises(InputError, match="elsewhere does not exist"):
        read(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"has no ImageSets/Main: use .*VOC2007"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"no image set 'val' in .*: it has train"):
        read_voc(root, "val", ("cat",))
    with pytest.raises(InputError, match="no image set"):
        read_voc(root, "../Main/train", ("cat",))


def test_real_voc(shared_data: Path):
    root = shared_data / "detection/voc2007_subset/VOC2007"
    splits = {name: read_voc(root, name, VOC_CLASSES) for name in ("train", "test", "car_train")}
    counts = {
        name: (len(split.records), sum(len(record.objects) for record in split.records))
        for name, split in splits.items()
    }
    assert counts == {"train": (420, 1370), "test": (220, 640), "car_train": (420, 1370)}
    first = next(one for one in splits["test"].records if one.image_id == "000004").objects[0]
    assert first == Object("car", (12.0, 310.0, 84.0, 362.0))  # its XML: 13 311 84 362
