"""A dataset as two small tables, `images` and `objects`, that every later job reads."""

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from pipeline.datasets.records import ImageRecord, Object
from pipeline.datasets.voc_layout import image_suffixes, read_list
from pipeline.errors import InputError

IMAGES = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("image_id", pa.string()),
            ("file", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("bytes", pa.int64()),
            ("modified_ns", pa.int64()),
            ("split", pa.string()),
        )
    ]
)
OBJECTS = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("image_id", pa.string()),
            ("object_id", pa.int32()),
            ("class", pa.string()),
            ("x_min", pa.float32()),
            ("y_min", pa.float32()),
            ("x_max", pa.float32()),
            ("y_max", pa.float32()),
            ("difficult", pa.bool_()),
            ("split", pa.string()),
        )
    ]
)


def images_table(records: Iterable[ImageRecord], split: str) -> pa.Table:
    """Return one row per image, in list order.

    Size and time of the files are those of now, by which a later change is noticed.
    """
    rows = [
        {
            "image_id": record.image_id,
            "file": str(record.path),
            "width": record.width,
            "height": record.height,
            **dict(zip(("bytes", "modified_ns"), file_state(record.path), strict=True)),
            "split": split,
        }
        for record in records
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES)


def objects_table(records: Iterable[ImageRecord], split: str) -> pa.Table:
    """Return one row per object, in the order of images and annotations."""
    rows = [
        {
            "image_id": record.image_id,
            "object_id": number,
            "class": one.class_name,
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), one.box, strict=True)),
            "difficult": one.difficult,
            "split": split,
        }
        for record in records
        for number, one in enumerate(record.objects)
    ]
    return pa.Table.from_pylist(rows, schema=OBJECTS)


def file_state(path: Path) -> tuple[int, int]:
    """Return bytes and modification time in ns of a file; -1 and 0 where there can be none."""
    try:
        held = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return -1, 0
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return -1, 0
        raise
    return held.st_size, held.st_mtime_ns


def read_tables(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Return the images and the objects of a dataset's folder."""
    images, objects = (pq.read_table(folder / f"{name}.parquet") for name in ("images", "objects"))
    return images, objects


# By which an image is known to be what it was; what its file holds is hashed when it is read.
STATE = ("file", "width", "height", "bytes", "modified_ns")


def unchanged(images: pa.Table, earlier: pa.Table) -> Int64[np.ndarray, " images"]:
    """Return the place of each image in a table of before; -1: it is not there, or has changed.

    Args:
        images: as they are listed now, of `IMAGES`.
        earlier: as they were; each id once.

    >>> then = pa.Table.from_pylist(
    ...     [dict.fromkeys(IMAGES.names, 0) | dict.fromkeys(["image_id", "file", "split"], each)
    ...      for each in ("a", "b")], schema=IMAGES)
    >>> now = pa.concat_tables([then.slice(1), then.slice(0, 1)])
    >>> unchanged(now.set_column(4, "bytes", pa.array([0, 9])), then).tolist()
    [1, -1]
    """
    place = pc.index_in  # pyright: ignore[reportAttributeAccessIssue]
    found = place(images["image_id"], earlier["image_id"].combine_chunks())
    places = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    rows = np.flatnonzero(places >= 0)
    same = np.ones(len(rows), bool)
    for name in STATE:
        now, then = images[name].take(pa.array(rows)), earlier[name].take(pa.array(places[rows]))
        equal = pc.equal(now, then)  # pyright: ignore[reportAttributeAccessIssue]
        same &= equal.to_numpy(zero_copy_only=False)
    places[rows[~same]] = -1
    return places


def owners(images: pa.Table, objects: pa.Table) -> Int64[np.ndarray, " objects"]:
    """Return the place of each object's image; -1 for objects of other images."""
    place = pc.index_in  # pyright: ignore[reportAttributeAccessIssue]
    places = place(objects["image_id"], images["image_id"].combine_chunks())
    return pc.fill_null(places, -1).to_numpy().astype(np.int64)


def files(images: pa.Table) -> dict[str, Path]:
    """Return the file of each image."""
    return {
        image_id: Path(file)
        for image_id, file in zip(
            images["image_id"].to_pylist(), images["file"].to_pylist(), strict=True
        )
    }


def tree_fingerprint(files: Iterable[Path], folders: Iterable[Path]) -> str:
    """Return a digest of files, and of all those in folders: their names, sizes and times.

    Raises:
        InputError: a file or folder cannot be read.
    """
    digest = sha256()
    try:
        _update(digest, ([str(file), *file_state(file)] for file in files))
        for folder in folders:
            _update(digest, _tree(folder))
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _tree(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of each file in a folder and below, in order."""
    for where, below, names in os.walk(folder):
        below.sort()
        for name in sorted(names):
            path = Path(where, name)
            yield str(path.relative_to(folder)), *file_state(path)


def fingerprint(
    root: Path, image_set: str, beside: Sequence[Path] = (), *, follow_links: bool = False
) -> str:
    """Return a digest of a VOC image set as it is now: its list, sizes and times of its files.

    Times are enough to notice a change, and cheap; what an image holds is hashed when it is read.

    Args:
        root: the folder.
        image_set: whose images count.
        beside: further files that do.
        follow_links: also where the list is a link that leads out of `root`.

    Raises:
        InputError: no such folder or image set.
    """
    image_ids, digest = read_list(root, image_set, follow_links=follow_links), sha256(b"[")
    _update(digest, image_ids)
    digest.update(b",")
    _update(digest, _states(root, image_ids))
    digest.update(b"]")
    if beside:
        _update(digest, ([file.name, *file_state(file)] for file in beside))
    return digest.hexdigest()


_JSON = json.JSONEncoder(separators=(",", ":")).encode


def _update(digest: Any, items: Iterable[Any]) -> None:
    """Add the JSON of a list, whose items come one by one: of millions none is kept."""
    between = "["
    for item in items:
        digest.update(f"{between}{_JSON(item)}".encode())
        between = ","
    digest.update(b"[]" if between == "[" else b"]")


def _states(root: Path, image_ids: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of each file of the listed images that is there."""
    folders = [str(root / name) for name in ("JPEGImages", "Annotations")]
    # Paths of millions of images are a gigabyte: of a file's name, only how it ends is kept.
    suffixes = image_suffixes(root / "JPEGImages", dict.fromkeys(image_ids))
    for image_id in image_ids:
        for folder, suffix in zip(folders, (suffixes.get(image_id), ".xml"), strict=True):
            with suppress(FileNotFoundError, NotADirectoryError):
                held = None if suffix is None else os.stat(f"{folder}/{image_id}{suffix}")
                if held is not None and stat.S_ISREG(held.st_mode):
                    yield f"{image_id}{suffix}", held.st_size, held.st_mtime_ns


class Records(Sequence[ImageRecord]):
    """The records of two tables, in the images' order; each is built when it is asked for.

    Tables take a tenth of the memory, and a job hands records out a few at a time.
    """

    def __init__(self, images: pa.Table, objects: pa.Table) -> None:
        places = owners(images, objects)
        order = np.argsort(places, kind="stable")
        self._images, self._objects = images, objects.take(order)
        self._ends = np.searchsorted(places[order], np.arange(len(images) + 1))

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, chosen: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, chosen: slice) -> tuple[ImageRecord, ...]: ...
    def __getitem__(self, chosen: int | slice) -> ImageRecord | tuple[ImageRecord, ...]:
        """Return one record, or those of a slice."""
        places = range(len(self))[chosen]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        (row,) = self._images.slice(places, 1).to_pylist()
        start, stop = self._ends[places : places + 2].tolist()
        own = self._objects.slice(start, stop - start).to_pylist()
        path = Path(row["file"])
        return ImageRecord(
            row["image_id"], path, row["width"], row["height"], tuple(_object(each) for each in own)
        )


def _object(row: Mapping[str, Any]) -> Object:
    box = (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
    return Object(row["class"], box, row["difficult"])
