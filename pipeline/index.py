"""A dataset as two small tables, `images` and `objects`, that every later job reads."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import digest
from pipeline.datasets.records import ImageRecord, Object
from pipeline.datasets.voc_layout import image_files, read_list

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
    """Return bytes and modification time in ns of a file; -1 and 0 where there is none."""
    try:
        held = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return -1, 0
    return held.st_size, held.st_mtime_ns


def of_split(table: pa.Table, split: str) -> pa.Table:
    """Return the rows of one image set."""
    return table.filter(pc.field("split") == split)


def files(images: pa.Table) -> dict[str, Path]:
    """Return the file of each image."""
    return {
        image_id: Path(file)
        for image_id, file in zip(
            images["image_id"].to_pylist(), images["file"].to_pylist(), strict=True
        )
    }


def fingerprint(root: Path, image_sets: Sequence[str]) -> str:
    """Return a digest of a VOC folder as it is now: lists, sizes and times of its files.

    Times are enough to notice a change, and cheap; what an image holds is hashed when it is read.

    Raises:
        InputError: no such folder or image set.
    """
    lists = {name: read_list(root, name) for name in image_sets}
    files = image_files(root / "JPEGImages")
    seen = []
    for image_id in dict.fromkeys(image_id for ids in lists.values() for image_id in ids):
        for path in (files.get(image_id), root / "Annotations" / f"{image_id}.xml"):
            if path is not None and path.is_file():
                held = path.stat()
                seen.append([path.name, held.st_size, held.st_mtime_ns])
    return digest(lists, seen)


class Records(Sequence[ImageRecord]):
    """The records of two tables, in the images' order; each is built when it is asked for.

    Tables take a tenth of the memory, and a job hands records out a few at a time.
    """

    def __init__(self, images: pa.Table, objects: pa.Table) -> None:
        place = pc.index_in  # pyright: ignore[reportAttributeAccessIssue]
        owners = place(objects["image_id"], images["image_id"].combine_chunks())
        owners = pc.fill_null(owners, -1).to_numpy()  # objects of other images
        order = np.argsort(owners, kind="stable")
        self._images, self._objects = images, objects.take(order)
        self._ends = np.searchsorted(owners[order], np.arange(len(images) + 1))

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
