"""Images sorted into a folder for each class, as torchvision's ImageFolder and Caltech-101 are."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import images
from pipeline.datasets.image_labels import labelled
from pipeline.datasets.inside import Inside
from pipeline.datasets.records import Split, is_text
from pipeline.datasets.voc_layout import is_plain_name
from pipeline.errors import InputError

ITSELF = "."  # the image set of a folder that holds the classes


def class_folders(root: Path, split: str) -> tuple[str, ...]:
    """Return the classes: names of the folders of an image set, in order.

    Raises:
        InputError: No such folder, or none in it.
    """
    within = split_folders(root, split)
    names = sorted({path.name for each in within for path in each.iterdir() if _is_class(path)})
    if len(names) < 2:
        raise InputError(
            f"{within[0]} has {len(names)} class folders, and a classifier tells two or more "
            "apart: give each class a folder of its images"
        )
    return tuple(names)


def read_folders(
    root: Path, split: str, classes: Sequence[str], *, follow_links: bool = False
) -> Split:
    """Read one image set.

    An image is called by its path below `root`, without its suffix where no other has that name.
    Folders of other classes are named in `skipped`.

    Args:
        root: The folder that holds the image sets.
        split: Name of one's folder; `.` is `root` itself, and `train+test` both of them.
        classes: The folders that are read.
        follow_links: Also where links lead out of `root`.

    Raises:
        InputError: No such folder, a class without an image in it, or whose name or link leads
            elsewhere.
    """
    for name in classes:
        if not is_plain_name(name):
            raise InputError(
                f"class {name!r} is no name of a folder in {root}: mend dataset.classes"
            )
    within = split_folders(root, split)
    others = sorted(
        {p.name for each in within for p in each.iterdir() if _is_class(p)} - {*classes}
    )
    skipped = [f"{within[0].name}/{name}: not among the classes" for name in others]
    beside = [path for each in within for name in classes for path in _files(each / name)]
    if strange := sum(path.suffix.lower() not in images.SUFFIXES for path in beside):
        skipped.append(f"{strange:,} files of class folders are no images by their names")
    if nameless := sum(not is_text(str(path)) for path in beside):
        skipped.append(f"{nameless:,} files have names that are no text in UTF-8: rename them")
    files = {name: [path for each in within for path in _images(each / name)] for name in classes}
    empty = [name for name, own in files.items() if not own]
    if empty:
        raise InputError(
            f"{within[0] / empty[0]} holds no image (known are "
            f"{', '.join(sorted(images.SUFFIXES))}): add some, or leave the class out, by removing "
            "its folders or naming the others in dataset.classes"
        )
    names = _names(root, [path for own in files.values() for path in own], follow_links)
    listed = ((names[path], path, {name: False}) for name, own in files.items() for path in own)
    return Split(labelled(sorted(listed, key=lambda each: each[0])), tuple(skipped))


def read_images(root: Path, split: str, *, follow_links: bool = False) -> Split:
    """Read one image set that nobody has labelled: all images in a folder and below.

    They are called as `read_folders` calls them.

    Args:
        root: The folder that holds the image sets.
        split: Name of one's folder; `.` is `root` itself, and `train+test` both of them.
        follow_links: Also where links lead out of `root`.

    Raises:
        InputError: No such folder, no image in it, or one whose link leads elsewhere.
    """
    beside = [path for each in split_folders(root, split) for path in _files(each)]
    found = image_files(root, split)
    skipped = []
    if strange := sum(path.suffix.lower() not in images.SUFFIXES for path in beside):
        skipped.append(f"{strange:,} files are no images by their names")
    if nameless := sum(not is_text(str(path)) for path in beside):
        skipped.append(f"{nameless:,} files have names that are no text in UTF-8: rename them")
    names = _names(root, found, follow_links)
    listed = sorted((names[path], path) for path in found)
    return Split(labelled((name, path, {}) for name, path in listed), tuple(skipped))


def image_files(root: Path, split: str) -> list[Path]:
    """Return all images of an image set that nobody has labelled.

    Raises:
        InputError: No such folder, or no image in it.
    """
    within = split_folders(root, split)
    found = list(dict.fromkeys(path for each in within for path in _images(each)))
    if not found:
        raise InputError(
            f"{within[0]} holds no image (known are {', '.join(sorted(images.SUFFIXES))})"
        )
    return found


def _names(root: Path, files: Sequence[Path], follow_links: bool) -> dict[Path, str]:
    """Return what each image is called: its path below `root`, by itself where that is enough."""
    inside = Inside(root, follow_links)
    names = {inside(path): path.relative_to(root).as_posix() for path in files}
    short = {path: name.removesuffix(path.suffix) for path, name in names.items()}
    return short if len(set(short.values())) == len(short) else names


def split_folders(root: Path, split: str) -> list[Path]:
    """Return the folders of an image set: one, or of `train+test` both.

    Raises:
        InputError: There is none.
    """
    return [_folder(root, each) for each in split.split("+")]


def _folder(root: Path, split: str) -> Path:
    folder = root if split == ITSELF else root / split
    if not root.is_dir():
        raise InputError(f"dataset folder {root} does not exist: give the one that holds images")
    if split != ITSELF and (not is_plain_name(split) or not folder.is_dir()):
        inside = sorted(path.name for path in root.iterdir() if _is_class(path))
        named = ", ".join(inside[:10]) + (f" and {len(inside) - 10} more" if inside[10:] else "")
        raise InputError(
            f"no image set {split!r} in {root}, which holds {named or 'no folder'}: name one of "
            f'these, or "{ITSELF}" if they are the classes'
        )
    return folder


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _images(folder: Path) -> list[Path]:
    found = (path for path in _files(folder) if path.suffix.lower() in images.SUFFIXES)
    return [path for path in found if is_text(str(path))]


def _files(folder: Path) -> Iterator[Path]:
    """Yield files in a folder and below, nothing hidden; links to folders end there."""
    for where, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(where, name) for name in sorted(names) if not name.startswith("."))
