"""What an image shows as a whole: objects that fill it, one for each of its classes.

So labels of images go through the same tables as labels of objects, and one store serves both.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline import images
from pipeline.datasets.inside import Inside
from pipeline.datasets.records import ImageRecord, Object, Split
from pipeline.datasets.voc_layout import SUFFIXES, image_files, read_labelled, read_list
from pipeline.errors import InputError

READERS = 8  # threads that wait for disks; decoding is none of their work


def labelled(named: Iterable[tuple[str, Path, Mapping[str, bool]]]) -> tuple[ImageRecord, ...]:
    """Return records of images of which is known what they show.

    Args:
        named: image id and file of each, and its classes with whether they are difficult: hardly
            to be told.

    Returns:
        Records in the same order. A file that cannot be read has a size of 0×0: extraction
        quarantines it with its reason.
    """
    listed = list(named)
    with ThreadPoolExecutor(READERS) as pool:
        sizes = pool.map(_size, (path for _, path, _ in listed))
        return tuple(
            ImageRecord(image_id, path, *size, _filling(size, classes))
            for (image_id, path, classes), size in zip(listed, sizes, strict=True)
        )


def of_objects(record: ImageRecord) -> ImageRecord:
    """Return what a record says of its image as a whole; difficult is what all its objects are."""
    difficult: dict[str, bool] = {}
    for one in record.objects:
        difficult[one.class_name] = difficult.get(one.class_name, True) and one.difficult
    size = (record.width, record.height)
    return ImageRecord(record.image_id, record.path, *size, _filling(size, difficult))


def class_lists(root: Path, image_set: str, classes: Sequence[str]) -> dict[str, Path]:
    """Return where VOC has the list of each class; it may have none."""
    lists = root / "ImageSets" / "Main"
    return {name: lists / f"{name}_{image_set}.txt" for name in classes}


def read_class_lists(
    root: Path, image_set: str, classes: Sequence[str], *, follow_links: bool = False
) -> Split | None:
    """Read what VOC's lists say of each image: `ImageSets/Main/dog_train.txt`, -1, 0 or 1 a line.

    Args:
        root: The folder that holds ImageSets and JPEGImages.
        image_set: Name of the list of all images.
        classes: Whose lists are read; 0 in one is a difficult image.
        follow_links: Also where links lead out of `root`.

    Returns:
        None where there is no list of any class: annotations then tell.

    Raises:
        InputError: One class has a list and another none, a list names other images than the
            image set, there is no image of that name, or a link leads out of `root`.
    """
    inside = Inside(root, follow_links)
    image_ids = read_list(root, image_set, follow_links=follow_links)
    paths = class_lists(root, image_set, classes)
    absent = [path for path in paths.values() if not path.is_file()]
    if len(absent) == len(paths):
        return None
    if absent:
        raise InputError(
            f"{len(paths) - len(absent)} of {len(paths)} classes have a list of the image set "
            f"{image_set!r}, and {absent[0]} is absent: add it, or leave the class out"
        )
    shown: dict[str, dict[str, bool]] = {image_id: {} for image_id in image_ids}
    for name, path in paths.items():
        labels = read_labelled(inside(path))
        if labels.keys() != shown.keys():
            odd = next(iter(labels.keys() ^ shown.keys()))
            raise InputError(
                f"{path} has {len(labels)} images and the image set {image_set!r} {len(shown)}; "
                f"{odd} is in one of them only"
            )
        for image_id, label in labels.items():
            if label >= 0:
                shown[image_id][name] = label == 0
    files = image_files(root / "JPEGImages")
    for image_id in image_ids:
        if image_id not in files:
            raise InputError(
                f"image set {image_set!r} lists {image_id}, but {root / 'JPEGImages'} has no "
                f"{image_id}{{{','.join(SUFFIXES)}}}: add the image or remove the line"
            )
    return Split(labelled((name, inside(files[name]), shown[name]) for name in image_ids))


def _filling(size: tuple[int, int], classes: Mapping[str, bool]) -> tuple[Object, ...]:
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    return tuple(Object(name, box, difficult) for name, difficult in classes.items())


def _size(path: Path) -> tuple[int, int]:
    try:
        return images.read_size(path)
    except (OSError, InputError):
        return 0, 0
