"""Which images a VOC folder holds: its lists, and the files that belong to their ids."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.datasets.inside import Inside
from pipeline.errors import InputError
from pipeline.plain_files import read_text
from pipeline.printable import is_plain

SUFFIXES = (".jpg", ".jpeg", ".png")  # the first that exists is the image
MOST_LIST_BYTES = 1 << 32  # 100 million images
LONGEST_ID = 200  # letters: with its suffix it is the name of a file


def read_list(root: Path, image_set: str, *, follow_links: bool = False) -> list[str]:
    """Read the image ids of ImageSets/Main/<image_set>.txt, in its order.

    Args:
        root: The folder that holds ImageSets.
        image_set: Name of the list, without `.txt`.
        follow_links: Also where a link leads out of `root`.

    Raises:
        InputError: No such folder or list, an id that is listed twice or is no plain file name.
    """
    lists = root / "ImageSets" / "Main"
    if not lists.is_dir():
        problem = "has no ImageSets/Main" if root.is_dir() else "does not exist"
        inside = [path.parent.parent.name for path in sorted(root.glob("*/ImageSets/Main"))]
        hint = f"use {root / inside[0]}" if inside else "give the folder that holds ImageSets"
        raise InputError(f"dataset folder {root} {problem}: {hint}")
    path = lists / f"{image_set}.txt"
    if not is_plain_name(image_set) or not path.is_file():
        known = sorted(path.stem for path in lists.glob("*.txt"))
        named = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if known[20:] else "")
        raise InputError(f"no image set {image_set!r} in {lists}: it has {named or 'none'}")
    return list(_labels(Inside(root, follow_links)(path)))


def read_labelled(path: Path) -> dict[str, int]:
    """Read a class's list: -1, 0 or 1 of each image id.

    Raises:
        InputError: A line without a label, or what `read_list` refuses.
    """
    labels = _labels(path)
    for image_id, label in labels.items():
        if label is None:
            raise InputError(f"{path} lists {image_id} without a label: expected -1, 0 or 1")
    return {image_id: label for image_id, label in labels.items() if label is not None}


def _labels(path: Path) -> dict[str, int | None]:
    """Take a list, whose lines are `000005` or, with a class's label, `000005 -1`."""
    lines = read_text(path, MOST_LIST_BYTES).splitlines()
    image_ids: dict[str, int | None] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        image_id = fields[0]
        if len(fields) > 2 or fields[1:] not in ([], ["-1"], ["0"], ["1"]):
            raise InputError(
                f"{path} line {number} reads {line!r}: expected an image id, alone or with -1, 0, 1"
            )
        if not is_plain_name(image_id):
            raise InputError(
                f"{path} line {number}: image id {image_id!r:.80} is not a plain file name; "
                "ids may not lead out of the dataset's folder"
            )
        if image_id in image_ids:
            first = next(k for k, other in enumerate(lines, 1) if other.split()[:1] == fields[:1])
            raise InputError(
                f"{path} lists {image_id} twice, in lines {first} and {number}: remove one"
            )
        image_ids[image_id] = int(fields[1]) if len(fields) > 1 else None
    if not image_ids:
        raise InputError(f"{path} lists no image: choose another image set")
    return image_ids


def is_plain_name(name: str) -> bool:
    """Return whether a name stays in the folder that it is looked for in."""
    if name in ("", ".", "..") or len(name) > LONGEST_ID:
        return False
    return is_plain(name) and not any(mark in name for mark in "/\\:")


def image_files(folder: Path) -> Mapping[str, Path]:
    """Find the image file of every id in a folder; a .jpg goes before a .png of the same name.

    Raises:
        InputError: No such folder.
    """
    return {name: folder / f"{name}{suffix}" for name, suffix in image_suffixes(folder).items()}


def image_suffixes(folder: Path, wanted: Mapping[str, object] | None = None) -> dict[str, str]:
    """Find how the image file of every id in a folder ends, as `image_files` chooses it.

    Args:
        folder: The one that holds the images.
        wanted: The ids to look for; None: all.

    Raises:
        InputError: No such folder.
    """
    # One listing instead of up to three look-ups per image, which network disks make slow.
    if not folder.is_dir():
        raise InputError(f"dataset folder {folder} does not exist: it must hold the images")
    found: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            image_id, dot, end = entry.name.rpartition(".")
            suffix = sys.intern(dot + end)  # one for all: an id's own takes as much as the id
            known = suffix.lower() in SUFFIXES and image_id
            if known and (wanted is None or image_id in wanted):
                found[image_id] = max(found.get(image_id, suffix), suffix, key=_goes_before)
    return found


def _goes_before(suffix: str) -> tuple[int, str]:
    return -SUFFIXES.index(suffix.lower()), suffix
