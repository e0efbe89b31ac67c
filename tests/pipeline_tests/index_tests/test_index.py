"""A dataset as tables, and back."""

import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from pipeline import index
from pipeline.config import digest
from pipeline.datasets.records import ImageRecord, Object
from pipeline.errors import InputError

RECORDS = (
    ImageRecord(
        "b",
        Path("folder/b.jpg"),
        500,
        375,
        (
            Object("cat", (0.5, 1.0, 20.0, 30.0)),
            Object("dog", (3.0, 4.0, 5.0, 6.0), difficult=True),
        ),
    ),
    ImageRecord("a", Path("a.png"), 10, 20, ()),
)


def test_tables_have_a_row_for_each():
    images, objects = index.images_table(RECORDS, "train"), index.objects_table(RECORDS, "train")
    assert images.to_pylist()[1] == {
        "image_id": "a",
        "file": "a.png",
        "width": 10,
        "height": 20,
        "bytes": -1,  # there is no such file
        "modified_ns": 0,
        "split": "train",
    }
    assert images["image_id"].to_pylist() == ["b", "a"]  # list order
    assert objects["object_id"].to_pylist() == [0, 1]
    assert objects["difficult"].to_pylist() == [False, True]
    assert objects.to_pylist()[0]["x_min"] == 0.5


def test_a_table_knows_its_files_as_they_were(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"seven b")
    os.utime(file, ns=(0, 1_234_567_891_011_121_314))
    table = index.images_table([ImageRecord("a", file, 1, 1, ())], "train")
    assert [table[name].to_pylist() for name in ("bytes", "modified_ns")] == [
        [7],
        [1_234_567_891_011_121_314],
    ]


def test_records_come_back():
    tables = index.images_table(RECORDS, "train"), index.objects_table(RECORDS, "train")
    assert tuple(index.Records(*tables)) == RECORDS
    assert index.files(tables[0]) == {"b": Path("folder/b.jpg"), "a": Path("a.png")}


def test_records_find_their_objects_in_any_order():
    images, objects = index.images_table(RECORDS, "train"), index.objects_table(RECORDS, "train")
    third = ImageRecord("c", Path("c.png"), 3, 7, (Object("cow", (0.0, 0.0, 2.0, 5.0)),))
    images = pa.concat_tables([index.images_table([third], "train"), images])
    objects = pa.concat_tables([objects, index.objects_table([third], "train")])
    found = index.Records(images, objects)
    assert found[0] == third
    assert found[1:] == RECORDS
    assert (found[-1], found[3:]) == (RECORDS[-1], ())
    with pytest.raises(IndexError):
        _ = found[3]


def test_nothing_at_all():
    images, objects = index.images_table([], "train"), index.objects_table([], "train")
    assert images.schema == index.IMAGES
    assert objects.schema == index.OBJECTS
    assert list(index.Records(images, objects)) == []


@pytest.fixture
def voc(tmp_path):
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (tmp_path / "ImageSets/Main/test.txt").write_text("c\n")
    for name in "abcd":
        (tmp_path / f"Annotations/{name}.xml").write_text("<annotation/>")
        Image.new("L", (5, 5)).save(tmp_path / f"JPEGImages/{name}.jpg")
    return tmp_path


def test_a_fingerprint_is_the_same_until_something_changes(voc):
    before = index.fingerprint(voc, "train")
    assert index.fingerprint(voc, "train") == before
    (voc / "JPEGImages/d.jpg").unlink()  # in no list
    (voc / "JPEGImages/c.jpg").unlink()  # in another
    assert index.fingerprint(voc, "train") == before
    assert index.fingerprint(voc, "test") != before


def test_a_fingerprint_by_hand(voc):
    """The digest of list and states; a .jpg goes before a .png, and what is no file has none."""
    (voc / "JPEGImages/a.png").write_bytes(b"not looked at")
    (voc / "JPEGImages/b.jpg").unlink()
    (voc / "JPEGImages/b.PNG").write_bytes(b"seven b")
    (voc / "Annotations/b.xml").unlink()
    (voc / "Annotations/b.xml").mkdir()
    names = ("JPEGImages/a.jpg", "Annotations/a.xml")
    held = [(voc / name).stat() for name in (*names, "JPEGImages/b.PNG")]
    files = ("a.jpg", "a.xml", "b.PNG")
    seen = [[name, each.st_size, each.st_mtime_ns] for name, each in zip(files, held, strict=True)]
    expected = digest(["a", "b"], seen)
    assert index.fingerprint(voc, "train") == expected


def test_a_fingerprint_takes_little_memory(voc):
    """Ids, and how files end; as paths and states they took 1,250 bytes an image."""
    names = [f"{number:06d}" for number in range(1000)]
    (voc / "ImageSets/Main/train.txt").write_text("\n".join(names))
    for name in names:
        (voc / f"JPEGImages/{name}.jpg").touch()
    tracemalloc.start()
    index.fingerprint(voc, "train")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / len(names) < 500


def grow(path):
    """Make a file larger within the same tick of the clock."""
    held = path.stat()
    path.write_bytes(path.read_bytes() + b"0")
    os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda voc: (voc / "ImageSets/Main/train.txt").write_text("b\na\n"),
        lambda voc: (voc / "Annotations/a.xml").write_text("<annotation />"),
        lambda voc: os.utime(voc / "JPEGImages/a.jpg", (1, 1)),
        lambda voc: grow(voc / "JPEGImages/a.jpg"),
        lambda voc: (voc / "JPEGImages/a.jpg").unlink(),
        lambda voc: (voc / "Annotations/b.xml").unlink(),
    ],
)
def test_a_fingerprint_notices(voc, change):
    before = index.fingerprint(voc, "train")
    change(voc)
    assert index.fingerprint(voc, "train") != before


def test_a_fingerprint_of_no_dataset(voc, tmp_path):
    with pytest.raises(InputError, match="no image set 'val'"):
        index.fingerprint(voc, "val")
    with pytest.raises(InputError, match="does not exist"):
        index.fingerprint(tmp_path / "nowhere", "train")
