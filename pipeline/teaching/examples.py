"""Marks from what people have: a box in a line, a table of boxes, COCO, a condition in SQL."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.learning.classifiers import Classifiers
from pipeline.plain_files import read_text
from pipeline.store.conditions import in_brackets
from pipeline.store.files import written_aside
from pipeline.store.reader import Store
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS
from pipeline.teaching.marks import Batch, Mark, require_box, shown

VERDICTS = {"yes": True, "no": False}
PROVENANCE = ("source", "who", "when", "why")  # of a batch, said of each of its marks
MOST_BYTES = 1 << 30  # of a file of marks
MOST_SELECTED = 20_000  # by a condition: more is no choice of examples, and each is kept
Size = Callable[[str], tuple[int, int] | None]
"""Width and height of an image of the store; None: it has no such image."""


def from_text(text: str) -> Mark:
    """Return the mark of `IMAGE_ID:x_min,y_min,x_max,y_max`.

    >>> from_text("a:b:1,2,3,4.5")
    Mark(image_id='a:b', box=(1.0, 2.0, 3.0, 4.5), yes=True)
    """
    image_id, _, corners = text.rpartition(":")
    try:
        box = [float(corner) for corner in corners.split(",")]
    except ValueError:
        box = []
    if not image_id or len(box) != 4:
        raise InputError(f"{text!r} is no box: give IMAGE_ID:x_min,y_min,x_max,y_max")
    return _mark(image_id, box, True)


def from_windows(store: Store, names: Sequence[str], yes: bool) -> list[Mark]:
    """Return the marks of stored windows, each named as `IMAGE_ID/WINDOW_ID`."""
    marks = []
    for name in names:
        image_id, _, number = name.rpartition("/")
        if not image_id or not number.isdecimal():
            raise InputError(f"{name!r} is no window: give IMAGE_ID/WINDOW_ID")
        shard = store.shard_of(image_id)
        if shard is None:
            raise InputError(f"window {name}: {store.root} has no image {image_id}")
        quoted = image_id.replace("'", "''")
        found = scan_shard(
            store,
            store.shards[shard].shard_id,
            BOX_COLUMNS,
            f"image_id = '{quoted}' AND window_id = {int(number)}",
        )
        rows = [row for table in found for row in table.to_pylist()]
        if not rows:
            raise InputError(f"image {image_id} of {store.root} has no window {number}")
        marks.append(_mark(image_id, [rows[0][name] for name in BOX_COLUMNS], yes))
    return marks


def from_sql(
    store: Store,
    condition: str,
    classifiers: Sequence[Classifiers] = (),
    detections: pa.Table | None = None,
) -> list[Mark]:
    """Return the windows that satisfy a condition in SQL over `windows` and the other tables.

    Args:
        store: the store.
        condition: see `Store.sql`.
        classifiers: that `score` may name.
        detections: the table of that name.
    """
    columns = ", ".join(("image_id", *BOX_COLUMNS))
    chosen = f"SELECT {columns} FROM windows WHERE {in_brackets(condition)}"
    query = f"{chosen} LIMIT {MOST_SELECTED + 1}"
    rows = store.sql(query, None, classifiers, detections).to_pylist()
    if not rows:
        raise InputError(f"no window of {store.root} satisfies {condition!r}")
    if len(rows) > MOST_SELECTED:
        raise InputError(
            f"more than {MOST_SELECTED:,} windows of {store.root} satisfy {condition!r}: select "
            "those that show the class"
        )
    return [_mark(row["image_id"], [row[name] for name in BOX_COLUMNS], True) for row in rows]


def from_csv(file: Path) -> list[Mark]:
    """Return the marks of a table with image_id, x_min, y_min, x_max, y_max and maybe verdict."""
    marks: list[Mark] = []
    with _readable(file):
        reader = csv.DictReader(io.StringIO(read_text(file, MOST_BYTES), newline=""))
        given = reader.fieldnames or []
        if missing := [name for name in ("image_id", *BOX_COLUMNS) if name not in given]:
            raise InputError(f"{file} has no column {missing[0]}; it has {', '.join(given)}")
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            verdict = (row.get("verdict") or "yes").strip().lower()
            if verdict not in VERDICTS:
                raise InputError(f"{where}: the verdict is {verdict!r}; give yes or no")
            if not row["image_id"]:
                raise InputError(f"{where}: image_id is empty")
            box = [_number(row[name], where, name) for name in BOX_COLUMNS]
            with _named(where):
                marks.append(_mark(row["image_id"], box, VERDICTS[verdict]))
    return marks


def from_coco(file: Path, class_: str, size: Size) -> list[Mark]:
    """Return the marks of a category in a COCO file.

    An image is known by the stem of its `file_name`, or by its id. Crowds are left out. What
    `to_coco` wrote as rejected is a no.
    """
    with _readable(file):
        content = json.loads(read_text(file, MOST_BYTES))
    tables = {name: _rows(file, content, name) for name in ("images", "annotations", "categories")}
    categories = enumerate(tables["categories"])
    ids = {k: _id(row, "id", f"{file}, categories[{k}]") for k, row in categories}
    wanted = {ids[k] for k, row in enumerate(tables["categories"]) if row.get("name") == class_}
    if not wanted:
        names = ", ".join(shown(str(row.get("name"))) for row in tables["categories"])
        raise InputError(f"{file} has no category {shown(class_)}; it has {names}")
    known = {_id(row, "id", f"{file}, images[{k}]"): row for k, row in enumerate(tables["images"])}
    rejected = _rows(file, {"rejected": [], **content}, "rejected")
    marks: list[Mark] = []
    for name, rows, yes in (
        ("annotations", tables["annotations"], True),
        ("rejected", rejected, False),
    ):
        for place, row in enumerate(rows):
            where = f"{file}, {name}[{place}]"
            if _id(row, "category_id", where) not in wanted or row.get("iscrowd"):
                continue
            if _id(row, "image_id", where) not in known:
                raise InputError(f"{where}: image_id {row.get('image_id')!r} is not in images")
            box = row.get("bbox")
            if not isinstance(box, list) or len(box) != 4:
                raise InputError(f"{where}: bbox is {box!r}; give [x, y, width, height]")
            x, y, width, height = (_number(each, where, "bbox") for each in box)
            image_id = _image_id(known[row["image_id"]], size)
            with _named(where):
                marks.append(_mark(image_id, [x, y, x + width, y + height], yes))
    return marks


def to_csv(file: Path, origins: Mapping[Mark, Batch]) -> None:
    """Write marks as `from_csv` reads them, and who said so, when and why."""
    with written_aside(file) as aside, aside.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image_id", *BOX_COLUMNS, "verdict", *PROVENANCE])
        for mark, batch in origins.items():
            said = _provenance(batch).values()
            writer.writerow([mark.image_id, *mark.box, "yes" if mark.yes else "no", *said])


def to_coco(file: Path, class_: str, origins: Mapping[Mark, Batch], size: Size) -> None:
    """Write marks as a COCO file: objects are annotations, and what is none is `rejected`.

    Each has who said so, when and why beside COCO's own fields.
    """
    images: dict[str, dict[str, Any]] = {}
    boxes: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for number, (mark, batch) in enumerate(origins.items(), 1):
        width, height = size(mark.image_id) or (0, 0)
        row = {"id": len(images) + 1, "file_name": mark.image_id, "width": width, "height": height}
        image = images.setdefault(mark.image_id, row)
        x, y, x_max, y_max = mark.box
        held = {"id": number, "image_id": image["id"], "category_id": 1, "iscrowd": 0}
        box = [x, y, x_max - x, y_max - y]
        area = box[2] * box[3]
        boxes[mark.yes].append({**held, "bbox": box, "area": area, **_provenance(batch)})
    content = {
        "images": list(images.values()),
        "categories": [{"id": 1, "name": class_}],
        "annotations": boxes[True],
        "rejected": boxes[False],
    }
    with written_aside(file) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def require_known(marks: Iterable[Mark], size: Size, where: object) -> None:
    """Check that each mark lies in an image of the store.

    Raises:
        InputError: names the first that does not.
    """
    sizes: dict[str, tuple[int, int] | None] = {}
    for mark in marks:
        if mark.image_id not in sizes:
            sizes[mark.image_id] = size(mark.image_id)
        held = sizes[mark.image_id]
        if held is None:
            raise InputError(f"{where} has no image {mark.image_id}")
        width, height = held
        if mark.box[2] > width or mark.box[3] > height:
            raise InputError(
                f"the box {list(mark.box)} is not inside image {mark.image_id}, which has "
                f"{width}×{height} pixels"
            )


def _image_id(image: Mapping[str, Any], size: Size) -> str:
    """Return the store's id of an image of a COCO file; its own where the store has none."""
    name = str(image.get("file_name") or "")
    names = (name, PurePosixPath(name).stem, str(image.get("id")))
    return next((each for each in names if each and size(each) is not None), names[1] or names[2])


def _mark(image_id: str, box: Sequence[float], yes: bool) -> Mark:
    require_box(image_id, box)
    x_min, y_min, x_max, y_max = map(float, box)
    return Mark(image_id, (x_min, y_min, x_max, y_max), yes)


def _number(value: Any, where: str, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: {name} is {value!r}; give a number")
    return number


def _id(row: Mapping[str, Any], name: str, where: str) -> Any:
    """Return what rows are known by."""
    value = row.get(name)
    if isinstance(value, list | dict):
        raise InputError(f"{where}: {name} is {value!r}; give a number or a text")
    return value


def _provenance(batch: Batch) -> dict[str, str]:
    return {name: getattr(batch, name) for name in PROVENANCE}


def _rows(file: Path, content: Any, name: str) -> list[dict[str, Any]]:
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{file} has no list of objects {name!r}: it is no COCO file")
    return rows


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError, csv.Error) as error:  # of encodings and of JSON, too
        raise InputError(f"{file} cannot be read: {error}") from None


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
