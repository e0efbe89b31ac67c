"""What images show as a whole, from VOC's lists and from objects."""

from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets import VOC_CLASSES, ImageRecord, Object, read_voc
from pipeline.datasets.image_labels import of_objects, read_class_lists
from pipeline.errors import InputError

CLASSES = ("cat", "dog")
REAL = Path(__file__).parents[4] / "shared" / "data" / "detection" / "voc2007_subset" / "VOC2007"


def folder(tmp_path: Path, **lists: str) -> Path:
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "JPEGImages").mkdir()
    for name, text in {"train": "1\n2\n3\n", **lists}.items():
        (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    for name in "123":
        Image.new("L", (4, 2)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    return tmp_path


def test_lists_say_shown_hardly_and_not(tmp_path: Path) -> None:
    root = folder(tmp_path, cat_train="1 1\n2 -1\n3  0\n", dog_train="1 1\n2 -1\n3 -1\n")
    read = read_class_lists(root, "train", CLASSES)
    assert read is not None
    box = (0.0, 0.0, 4.0, 2.0)
    assert [record.objects for record in read.records] == [
        (Object("cat", box), Object("dog", box)),
        (),
        (Object("cat", box, difficult=True),),
    ]


def test_without_any_list_annotations_tell(tmp_path: Path) -> None:
    assert read_class_lists(folder(tmp_path), "train", CLASSES) is None


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ({"cat_train": "1 1\n2 1\n3 1\n"}, "1 of 2 classes have a list .*dog_train.txt is absent"),
        (
            {"cat_train": "1 1\n2 1\n", "dog_train": "1 1\n2 1\n3 1\n"},
            "cat_train.txt has 2 images and the image set 'train' 3; 3 is in one of them only",
        ),
        (
            {"cat_train": "1 1\n2\n3 1\n", "dog_train": "1 1\n2 1\n3 1\n"},
            "cat_train.txt lists 2 without a label",
        ),
    ],
)
def test_lists_that_do_not_agree(tmp_path: Path, lists: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_class_lists(folder(tmp_path, **lists), "train", CLASSES)


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    root = folder(tmp_path, cat_train="1 1\n2 1\n3 1\n", dog_train="1 1\n2 1\n3 1\n")
    (root / "JPEGImages" / "2.jpg").unlink()
    with pytest.raises(InputError, match=r"lists 2, but .* has no 2\{"):
        read_class_lists(root, "train", CLASSES)


def test_objects_say_what_their_image_shows() -> None:
    objects = (
        Object("dog", (1.0, 1.0, 2.0, 2.0), difficult=True),
        Object("cat", (0.0, 0.0, 3.0, 3.0), difficult=True),
        Object("dog", (2.0, 2.0, 3.0, 3.0)),
    )
    whole = of_objects(ImageRecord("a", Path("a.jpg"), 8, 6, objects))
    assert whole.objects == (
        Object("dog", (0.0, 0.0, 8.0, 6.0)),
        Object("cat", (0.0, 0.0, 8.0, 6.0), difficult=True),
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="no photographs in ../shared/data")
def test_the_lists_of_voc_say_what_its_annotations_say() -> None:
    for split in ("train", "test"):
        read = read_class_lists(REAL, split, VOC_CLASSES)
        assert read is not None
        lists = {record.image_id: record for record in read.records}
        for record in map(of_objects, read_voc(REAL, split, VOC_CLASSES).records):
            assert set(lists[record.image_id].objects) == set(record.objects), record.image_id
