"""A dataset as two small tables, `images` and `objects`, that every later job reads."""

from collections.abc import Iterable, Sequence
from pathlib import Path

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
    """Return one row per image, in list order."""
    rows = [
        {
            "image_id": record.image_id,
            "file": str(record.path),
            "width": record.width,
            "height": record.height,
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


def records(images: pa.Table, objects: pa.Table) -> list[ImageRecord]:
    """Return the records of the two tables, in the images' order."""
    grouped: dict[str, list[Object]] = {}
    for row in objects.to_pylist():
        box = (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
        one = Object(row["class"], box, row["difficult"])
        grouped.setdefault(row["image_id"], []).append(one)
    return [
        ImageRecord(
            row["image_id"],
            Path(row["file"]),
            row["width"],
            row["height"],
            tuple(grouped.get(row["image_id"], ())),
        )
        for row in images.to_pylist()
    ]
