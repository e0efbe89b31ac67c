"""Reader of COCO's layout: annotations/instances_<set>.json, and the images in a folder <set>.

COCO writes a box as `x, y, width, height`, 0-based. The step to SPEC §1 boxes is made in
`_object` and nowhere else.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.inside import Inside
from pipeline.datasets.records import MOST_SIDE_PX, ImageRecord, Object, Split, is_text, rounded
from pipeline.datasets.voc_layout import LONGEST_ID, is_plain_name
from pipeline.errors import InputError
from pipeline.plain_files import read_text
from pipeline.printable import is_plain

MOST_JSON_BYTES = 1 << 32  # COCO's own largest has 450 MB
_TOUCHES_PX = 1.0  # annotators' boxes leave an image by fractions of a pixel: cut, not refused


def category_names(root: Path, split: str, *, follow_links: bool = False) -> tuple[str, ...]:
    """Return the classes of an image set, in the order of their numbers.

    Raises:
        InputError: No such file, or it is not what COCO writes.
    """
    path = annotations(root, split, follow_links=follow_links)
    return tuple(_categories(_read(path, path.stat().st_mtime_ns), path).values())


def annotations(root: Path, split: str, *, follow_links: bool = False) -> Path:
    """Return the file of an image set.

    Raises:
        InputError: There is none, or a link leads out of `root`.
    """
    path = root / "annotations" / f"instances_{split}.json"
    if not is_plain_name(split) or not path.is_file():
        found = sorted((root / "annotations").glob("instances_*.json"))
        known = ", ".join(each.stem.removeprefix("instances_") for each in found)
        raise InputError(f"there is no {path}: image sets in {root} are {known or 'none'}")
    return Inside(root, follow_links)(path)


def read_coco(
    root: Path,
    split: str,
    classes: Sequence[str],
    *,
    skip_invalid: bool = False,
    follow_links: bool = False,
) -> Split:
    """Read one image set.

    A crowd, one box around many objects, is difficult: evaluation neither rewards nor punishes it.

    Args:
        root: The folder that holds `annotations`.
        split: Name of the set, such as `train2017`.
        classes: The categories that are read; objects of others are left out.
        skip_invalid: Leave out objects whose box is not finite, empty or outside the image, and
            list them in `skipped`, instead of raising.
        follow_links: Also where links lead out of `root`.

    Raises:
        InputError: What the file says is not what COCO writes, names an image or a category that
            is not there, leads out of the folder, or has an invalid box.
    """
    path, inside = annotations(root, split, follow_links=follow_links), Inside(root, follow_links)
    content = _read(path, path.stat().st_mtime_ns)
    names = _categories(content, path)
    folder = image_folder(root, split)
    found: dict[Any, list[Object]] = {}
    sizes: dict[Any, tuple[str, int, int]] = {}
    for entry in _list(content, "images", path):
        number, name = _field(entry, "id", path), str(_field(entry, "file_name", path))
        if number in sizes:
            raise InputError(f"{path} has two images with id {number!r}: remove one")
        size = (_whole(entry, "width", path), _whole(entry, "height", path))
        sizes[number], found[number] = (_inside(name, path), *size), []
    skipped: list[str] = []
    for entry in _list(content, "annotations", path):
        number, category = _field(entry, "image_id", path), _field(entry, "category_id", path)
        where = f"{path.name}, object {entry.get('id')!r}"
        if number not in sizes or category not in names:
            raise InputError(
                f"{where} is of image {number!r} and category {category!r}, and one of them is not "
                "in the file"
            )
        if names[category] not in classes:
            continue
        one, problem = _object(entry, names[category], sizes[number][1:], where)
        if problem and not skip_invalid:
            raise InputError(f"{problem}: mend it, or set dataset.skip_invalid = true")
        if one is None:
            skipped.append(problem)
        else:
            found[number].append(one)
    named = _image_ids([name for name, _, _ in sizes.values()], path)
    records = [
        ImageRecord(named[name], inside(folder / name), width, height, tuple(found[number]))
        for number, (name, width, height) in sizes.items()
    ]
    if not records:
        raise InputError(f"{path} lists no image: choose another image set")
    return Split(tuple(records), tuple(skipped))


def _object(
    entry: Mapping[str, Any], class_name: str, size: tuple[int, int], where: str
) -> tuple[Object | None, str]:
    """Return an object, or what is wrong with it."""
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return None, f"{where} ({class_name}): bbox is {box!r:.80}, not four numbers"
    crowd = entry.get("iscrowd")
    if crowd not in (0, 1, None):
        return None, f"{where} ({class_name}): iscrowd is {crowd!r:.40}, neither 0 nor 1"
    left, top, width, height = map(float, box)
    right, bottom = left + width, top + height
    told = f"{where} ({class_name}): bbox {box} of an image of {size[0]}x{size[1]}"
    if not all(math.isfinite(each) for each in (left, top, right, bottom)):
        return None, f"{told} is not finite"
    over = max(-left, -top, right - size[0], bottom - size[1])
    if over > _TOUCHES_PX:
        return None, f"{told} leaves it"
    left, top, right, bottom = rounded(
        (max(left, 0.0), max(top, 0.0), min(right, size[0]), min(bottom, size[1]))
    )
    if right <= left or bottom <= top:
        return None, f"{told} is empty"
    return Object(class_name, (left, top, right, bottom), bool(crowd)), ""


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 1 << 53  # larger ones are no float
    return isinstance(value, float)


@lru_cache(maxsize=1)
def _read(path: Path, _modified_ns: int) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path, MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is the first
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not what COCO writes: it holds no object")
    return content


def _categories(content: Mapping[str, Any], path: Path) -> dict[Any, str]:
    listed = _list(content, "categories", path)
    names = {_field(one, "id", path): str(_field(one, "name", path)).strip() for one in listed}
    if len(names) < len(listed) or len(set(names.values())) < len(names) or "" in names.values():
        raise InputError(f"{path}: categories have one number or name twice, or none")
    return dict(sorted(names.items(), key=lambda each: (str(type(each[0])), each[0])))


def _list(content: Mapping[str, Any], name: str, path: Path) -> list[Mapping[str, Any]]:
    listed = content.get(name)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise InputError(f'{path} has no list "{name}": it is not what COCO writes')
    return listed


def _field(entry: Mapping[str, Any], name: str, path: Path) -> Any:
    value = entry.get(name)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise InputError(
            f"{path}: {name} is {value!r:.40}, and should be a number or a name: {_shown(entry)}"
        )
    if isinstance(value, str) and name != "file_name" and not is_text(value):
        raise InputError(f"{path}: {name} is {value!r:.80}, which is no text: {_shown(entry)}")
    return value


def _shown(entry: Mapping[str, Any]) -> str:
    """Return what stands around a fault, without the polygons."""
    return f"{entry!s:.200}"


def _whole(entry: Mapping[str, Any], name: str, path: Path) -> int:
    value = _field(entry, name, path)
    if not isinstance(value, int) or not 1 <= value <= MOST_SIDE_PX:
        raise InputError(
            f"{path}: {name} is {value!r:.40}, and should be a number of pixels, from 1 to "
            f"{MOST_SIDE_PX:,}: {_shown(entry)}"
        )
    return value


def _inside(name: str, path: Path) -> str:
    """Return a file's name, if it stays in the folder."""
    parts = PurePosixPath(name).parts
    leads_out = name.startswith("/") or ".." in parts or any(mark in name for mark in "\\:")
    if not parts or leads_out or not is_plain(name) or max(map(len, parts)) > LONGEST_ID:
        raise InputError(
            f"{path} names the image {name!r:.80}: names may not lead out of the dataset's folder, "
            f"and have up to {LONGEST_ID} letters that can be printed"
        )
    return PurePosixPath(name).as_posix()


def _image_ids(names: Sequence[str], path: Path) -> dict[str, str]:
    """Return what images are called: without their suffixes, where names then still differ."""
    if len(set(names)) < len(names):
        ((twice, _),) = Counter(names).most_common(1)
        raise InputError(f"{path} has two images with file_name {twice!r}: remove one")
    short = {name: PurePosixPath(name).with_suffix("").as_posix() for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


def image_files(root: Path, split: str, *, follow_links: bool = False) -> list[Path]:
    """Return the files that a set lists, in its order, whether they are there or not.

    Raises:
        InputError: As for `read_coco`.
    """
    path, folder = annotations(root, split, follow_links=follow_links), image_folder(root, split)
    listed = _list(_read(path, path.stat().st_mtime_ns), "images", path)
    return [folder / _inside(str(_field(each, "file_name", path)), path) for each in listed]


def image_folder(root: Path, split: str) -> Path:
    """Return where the set's images are: `<set>`, else `images`, else the root itself."""
    places = (root / split, root / "images", root)
    return next(place for place in places if place.is_dir())
