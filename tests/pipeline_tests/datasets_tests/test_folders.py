"""Images sorted into a folder for each class."""

from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets.folders import class_folders, read_folders
from pipeline.errors import InputError


def put(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_each_image_shows_the_class_of_its_folder_and_fills_it(tmp_path: Path) -> None:
    put(tmp_path / "train" / "cat" / "b.png")
    put(tmp_path / "train" / "cat" / "below" / "a.jpg", (20, 10))
    put(tmp_path / "train" / "dog" / "one two.PNG")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    put(tmp_path / "train" / ".hidden" / "c.png")
    classes = class_folders(tmp_path, "train")
    assert classes == ("cat", "dog")
    read = read_folders(tmp_path, "train", classes)
    assert read.skipped == ("1 files of class folders are no images by their names",)
    records = read.records
    assert [record.image_id for record in records] == [
        "train/cat/b",
        "train/cat/below/a",
        "train/dog/one two",
    ]
    assert [(record.width, record.height) for record in records] == [(8, 6), (20, 10), (8, 6)]
    assert [record.objects[0].class_name for record in records] == ["cat", "cat", "dog"]
    assert records[1].objects[0].box == (0, 0, 20, 10)
    assert records[2].path == tmp_path / "train" / "dog" / "one two.PNG"


def test_the_root_itself_may_hold_the_classes(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "dog" / "1.png")
    records = read_folders(tmp_path, ".", class_folders(tmp_path, ".")).records
    assert [record.image_id for record in records] == ["cat/1", "dog/1"]


def test_two_image_sets_may_be_one(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            put(tmp_path / split / name / "1.png")
    records = read_folders(tmp_path, "train+test", class_folders(tmp_path, "train+test")).records
    names = ["test/cat/1", "test/dog/1", "train/cat/1", "train/dog/1"]
    assert [record.image_id for record in records] == names
    with pytest.raises(InputError, match="no image set 'val'"):
        class_folders(tmp_path, "train+val")


def test_suffixes_stay_where_names_would_be_equal(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "cat" / "1.jpg")
    put(tmp_path / "dog" / "1.png")
    records = read_folders(tmp_path, ".", ("cat", "dog")).records
    assert [record.image_id for record in records] == ["cat/1.jpg", "cat/1.png", "dog/1.png"]


def test_folders_of_other_classes_are_named(tmp_path: Path) -> None:
    for name in ("cat", "dog", "cow"):
        put(tmp_path / "test" / name / "1.png")
    read = read_folders(tmp_path, "test", ("cat", "dog"))
    assert [record.image_id for record in read.records] == ["test/cat/1", "test/dog/1"]
    assert read.skipped == ("test/cow: not among the classes",)
    with pytest.raises(InputError, match=r"class '\.\./cat' is no name of a folder"):
        read_folders(tmp_path, "test", ("../cat", "dog"))


def test_a_class_of_the_second_image_set_alone_is_a_class(tmp_path: Path) -> None:
    put(tmp_path / "train" / "cat" / "1.png")
    put(tmp_path / "train" / "dog" / "1.png")
    put(tmp_path / "test" / "cow" / "1.png")
    assert class_folders(tmp_path, "train+test") == ("cat", "cow", "dog")


def test_what_cannot_be_read_has_no_size(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "2.png").write_bytes(b"not an image")
    first, second = read_folders(tmp_path, ".", ("cat",)).records
    assert (first.width, second.width, second.height) == (8, 0, 0)


def test_a_class_without_an_image_is_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match=r"dog holds no image .* leave the class out"):
        read_folders(tmp_path, ".", ("cat", "dog"))


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("test", "no image set 'test' in .* which holds cat, dog"),
        ("../elsewhere", "no image set"),
        ("..", "no image set"),
        (".", "has 1 class folders, and a classifier tells two or more apart"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, split: str, told: str) -> None:
    root = tmp_path / "root"
    put(root / "cat" / "1.png")
    if split != ".":
        put(root / "dog" / "1.png")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match=told):
        class_folders(root, split)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        class_folders(tmp_path / "nowhere", "train")
