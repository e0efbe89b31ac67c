"""Ready-made windows from Parquet tables, and the check that every import goes through."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from jaxtyping import Float32
from numpy.typing import ArrayLike

from pipeline.errors import InputError
from pipeline.store.footers import require_plain

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_COLUMNS = ("image_id", *_CORNERS)
MOST_WINDOWS = 100_000  # of an image; selective search gives 2,000, a dense grid 20,000


def read_parquet(
    path: Path, image_ids: Sequence[str] | None = None
) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    """Read windows from a Parquet file, or a folder of them.

    Args:
        path: Columns `image_id, x_min, y_min, x_max, y_max` with SPEC §1 boxes; an optional
            `window_id` gives the order within an image, else the file does.
        image_ids: Read only these. Those that the file does not have get zero windows.

    Returns:
        Windows by image id.

    Raises:
        InputError: No such file, not Parquet, a missing column, an invalid box, or none of
            `image_ids` in the file.
    """
    table = _read_table(path, image_ids)
    windows = np.stack([table[name].to_numpy() for name in _CORNERS], axis=1).reshape(-1, 4)
    names, image = np.unique(table["image_id"].to_numpy(), return_inverse=True)
    if image_ids and not len(names):
        raise InputError(
            f"{path} has windows for none of the {len(image_ids)} images asked for "
            f"(the first is {image_ids[0]}): it belongs to another dataset"
        )
    place = table["window_id"].to_numpy() if "window_id" in table.column_names else image
    order = np.lexsort((place, image))
    edges = np.searchsorted(image[order], np.arange(len(names) + 1))
    found = {
        str(name): windows[order[edges[index] : edges[index + 1]]]
        for index, name in enumerate(names)
    }
    for image_id, boxes in found.items():
        check_windows(boxes, image_id)
    if image_ids is None:
        return found
    nothing = np.zeros((0, 4), dtype=np.float32)
    return {image_id: found.get(image_id, nothing) for image_id in image_ids}


def check_windows(
    windows: ArrayLike,
    image_id: str,
    width: int | float = np.inf,
    height: int | float = np.inf,
) -> None:
    """Refuse windows that are not finite, empty, reversed, or outside their image.

    Args:
        windows: SPEC §1 boxes, `[windows 4]`.
        image_id: For the message.
        width: Of the image; left out, only negative coordinates count as outside.
        height: Of the image.

    Raises:
        InputError: Names the image, the window's number (from 0) and the box.
    """
    boxes = np.asarray(windows, dtype=np.float32).reshape(-1, 4)
    tests = {
        "is not finite": ~np.isfinite(boxes).all(axis=1),
        "is empty or reversed": (boxes[:, :2] >= boxes[:, 2:]).any(axis=1),
        "leaves the image": (boxes < 0).any(axis=1) | (boxes[:, 2:] > (width, height)).any(axis=1),
    }
    for problem, wrong in tests.items():
        if wrong.any():
            number = int(np.argmax(wrong))
            size = f", the image is {width:g}x{height:g}" if np.isfinite(width) else ""
            raise InputError(
                f"image {image_id}, window {number}: box {boxes[number].tolist()} {problem} "
                f"(0-based half-open{size}); are these windows of this dataset, in this layout?"
            )


def _read_table(path: Path, image_ids: Sequence[str] | None) -> pa.Table:
    if not path.exists():
        raise InputError(f"no windows file {path}: give an existing one or make the windows")
    try:
        files = [path] if path.is_file() else _tables_in(path)
        for file in files:
            require_plain(file)
        source = ds.dataset([str(file) for file in files], format="parquet")
        names = source.schema.names
        missing = [one for one in _COLUMNS if one not in names]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
        columns = [*_COLUMNS, "window_id"] if "window_id" in names else list(_COLUMNS)
        ids = pc.field("image_id")
        # Rows of no image are not passed over, but refused below.
        chosen = None if image_ids is None else ids.isin(list(image_ids)) | ids.is_null()
        table = _read_rows(source.scanner(columns=columns, filter=chosen), path)
        for name in _CORNERS:
            column = table[name].cast(pa.float32())
            table = table.set_column(table.schema.get_field_index(name), name, column)
        if "window_id" in names:
            place = table.schema.get_field_index("window_id")
            column = table["window_id"].cast(pa.int64())
            if column.null_count:
                raise pa.ArrowInvalid(f"{column.null_count:,} rows have no window_id")
            table = table.set_column(place, "window_id", column)
        return _with_plain_ids(path, table)
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        raise InputError(f"{path} is not a Parquet file of windows: {error}") from error


def _tables_in(folder: Path) -> list[Path]:
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)
    )
    if not found:
        raise InputError(f"{folder} holds no file: give the Parquet files of the windows")
    return found


def _read_rows(scanner: ds.Scanner, path: Path) -> pa.Table:
    """Return all rows, unless an image has more than anybody can mean.

    A file of a kilobyte may say of a window that it comes a billion times.
    """
    held, rows = list[pa.RecordBatch](), Counter[str]()
    for batch in scanner.to_batches():
        held.append(batch)
        for each in batch["image_id"].value_counts().to_pylist():
            rows[each["values"]] += each["counts"]
            if rows[each["values"]] > MOST_WINDOWS:
                raise InputError(
                    f"{path} has more than {MOST_WINDOWS:,} windows of image {each['values']}: "
                    "leave the least likely ones out"
                )
    return pa.Table.from_batches(held, scanner.projected_schema)


def _with_plain_ids(path: Path, table: pa.Table) -> pa.Table:
    column = table["image_id"]
    # Whole numbers are refused, not printed: 5 would hardly be the dataset's "000005".
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if column.null_count or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(
            f"{path}: column 'image_id' holds {kind} with {column.null_count} nulls; "
            "it must be strings without nulls"
        )
    place = table.schema.get_field_index("image_id")
    ids = column.cast(pa.string())
    ids.validate(full=True)  # UTF-8
    return table.set_column(place, "image_id", ids)
