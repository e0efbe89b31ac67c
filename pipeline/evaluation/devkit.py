"""VOC devkit result files: ``<stem>_<class>.txt``, lines ``image score x1 y1 x2 y2``, 1-based."""

from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.evaluation.tables import SIDES, TableLike, read_detections
from pipeline.plain_files import read_text
from pipeline.printable import is_plain

MOST_BYTES = 1 << 32  # of a class's results: 50 million detections
STEM = "comp4_det_test"  # the devkit's own: competition 4 (own training data), detection, test set


def read_devkit(folder: Path, stem: str = STEM) -> pa.Table:
    """Read all classes' result files of a folder into one table of detections.

    The files' boxes are 1-based with inclusive ends; here they become 0-based half-open, which
    moves the minima by one pixel and leaves the maxima.

    Args:
        folder: where ``<stem>_<class>.txt`` lie.
        stem: beginning of the file names.

    Returns:
        Columns ``image_id, class, score, x_min, y_min, x_max, y_max``, classes sorted, rows in
        file order; scores float64, boxes float32.

    Raises:
        InputError: no such files, or a line that is not a name and five numbers.
    """
    paths = sorted(folder.glob(f"{stem}_*.txt"))
    if not paths:
        raise InputError(f"{folder}: no result files named {stem}_<class>.txt; check the stem")
    names: list[str] = []
    classes: list[str] = []
    numbers: list[list[float]] = []
    for path in paths:
        for number, line in enumerate(read_text(path, MOST_BYTES).splitlines(), start=1):
            if line.strip():
                image_id, *rest = line.split()
                names.append(image_id)
                classes.append(path.stem.removeprefix(f"{stem}_"))
                numbers.append(_five_numbers(rest, path, number))
    values = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    boxes = (values[:, 1:] - np.array([1, 1, 0, 0])).astype(np.float32)
    columns = {"image_id": pa.array(names, pa.string()), "class": pa.array(classes, pa.string())}
    columns["score"] = pa.array(values[:, 0])
    return pa.table(columns | {side: pa.array(boxes[:, k]) for k, side in enumerate(SIDES)})


def _five_numbers(fields: list[str], path: Path, number: int) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = []
    if len(values) != 5:
        raise InputError(
            f"{path}, line {number}: expected 'image score x1 y1 x2 y2', found a name and "
            f"{' '.join(fields)!r}"
        )
    return values


def write_devkit(
    detections: TableLike,
    folder: Path,
    stem: str = STEM,
    classes: Iterable[Hashable] = (),
) -> tuple[Path, ...]:
    """Write detections as the devkit's result files; ``read_devkit`` gives them back unchanged.

    Args:
        detections: columns ``image_id, class, score`` and the box; see ``tables``.
        folder: created if absent; files of the same names are replaced.
        stem: beginning of the file names.
        classes: classes that get a file even without detections, as the devkit expects.

    Returns:
        The files' paths, sorted.

    Raises:
        InputError: a malformed table, or a name that the format cannot carry.
    """
    table = read_detections(detections)
    classes_named = [str(name) for name in table.classes.names]
    images_named = [str(name) for name in table.images.names]
    for name in images_named:
        if not name or name.split() != [name]:
            raise InputError(f"image {name!r}: the devkit's lines cannot carry white space")
    lines: dict[str, list[str]] = {str(name): [] for name in (*classes, *classes_named)}
    for name in lines:
        if not name or Path(name).name != name or not is_plain(name):
            raise InputError(f"class {name!r} cannot be part of a file name; rename it")
    boxes = table.boxes.astype(np.float64) + np.array([1, 1, 0, 0])
    for row, (image, kind) in enumerate(zip(table.images.codes, table.classes.codes, strict=True)):
        values = (table.scores[row], *boxes[row])
        # repr is the shortest text that reads back as the same float64
        text = " ".join(repr(float(value)) for value in values)
        lines[classes_named[kind]].append(f"{images_named[image]} {text}\n")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{stem}_{name}.txt": "".join(rows) for name, rows in lines.items()}
    for path, text in paths.items():
        path.write_text(text, encoding="utf-8")
    return tuple(sorted(paths))
