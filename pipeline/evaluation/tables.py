"""Detections and ground truth in whatever table the user holds, read into plain columns.

A table is a pyarrow Table, a data frame, a mapping of columns or a list of rows. Detections have
``image_id``, ``class``, ``score`` and either ``x_min, y_min, x_max, y_max`` or one column ``box``
of four numbers; ground truth has ``image_id``, ``class``, the box, and may have ``difficult``.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from pipeline.errors import InputError

SIDES = ("x_min", "y_min", "x_max", "y_max")


@runtime_checkable
class Frame(Protocol):
    """A data frame, such as pandas': named columns behind square brackets."""

    @property
    def columns(self) -> Any:
        """The names of the columns."""
        ...

    def __getitem__(self, name: str) -> Any: ...


TableLike: TypeAlias = pa.Table | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Frame


@dataclass(frozen=True)
class Labels:
    """A column of repeated names: each row's index into the distinct names."""

    names: tuple[Hashable, ...]
    codes: Int[np.ndarray, " rows"]

    def within(self, index: Mapping[Hashable, int]) -> Int[np.ndarray, " rows"]:
        """The rows' positions in another index of the same names."""
        moved = np.array([index[name] for name in self.names], dtype=np.int32)
        return moved[self.codes]


@dataclass(frozen=True)
class Detections:
    """Columns of a table of detections, in the table's row order; boxes in pixels (SPEC §1)."""

    images: Labels
    classes: Labels
    boxes: Float[np.ndarray, "rows 4"]
    scores: Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class GroundTruth:
    """Columns of a table of objects, in the table's row order; boxes in pixels (SPEC §1)."""

    images: Labels
    classes: Labels
    boxes: Float[np.ndarray, "rows 4"]
    difficult: Bool[np.ndarray, " rows"]


def read_detections(table: TableLike) -> Detections:
    """Read detections from any accepted table.

    Raises:
        InputError: a column is missing, or a score or box is not a number, or a box is reversed.
    """
    columns = _Columns(table, "detections")
    images, classes, boxes = columns.labels("image_id"), columns.labels("class"), columns.boxes()
    scores = columns.numbers("score")
    columns.same_length(images.codes, classes.codes, boxes, scores)
    columns.refuse(np.isnan(scores), "has a score that is not a number", images)
    reversed_ = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    columns.refuse(reversed_, "has a box whose minimum exceeds its maximum", images, boxes)
    return Detections(images, classes, boxes, scores)


def read_ground_truth(table: TableLike) -> GroundTruth:
    """Read objects from any accepted table; without a column ``difficult`` none is.

    Raises:
        InputError: a column is missing, or a box is not finite or has no area.
    """
    columns = _Columns(table, "ground truth")
    images, classes, boxes = columns.labels("image_id"), columns.labels("class"), columns.boxes()
    difficult = columns.flags("difficult", len(images.codes))
    columns.same_length(images.codes, classes.codes, boxes, difficult)
    empty = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    columns.refuse(empty, "has a box without area", images, boxes)
    return GroundTruth(images, classes, boxes, difficult)


class _Columns:
    """The columns of one table, and the errors that name it."""

    def __init__(self, table: TableLike, title: str):
        self.title = title
        self.columns = _by_name(table, title)
        self.is_empty = not self.columns or all(len(c) == 0 for c in self.columns.values())

    def column(self, name: str) -> Any:
        if name in self.columns:
            return self.columns[name]
        if self.is_empty:  # no rows may come without columns: an empty list of detections
            return []
        have = ", ".join(map(str, self.columns))
        raise InputError(f"{self.title}: no column {name!r} among ({have}); add it or rename one")

    def labels(self, name: str) -> Labels:
        column = self.column(name)
        try:
            array = _arrow(column)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"{self.title}: column {name!r} must be all text or all whole numbers: {error}"
            ) from error
        if array.null_count:
            raise InputError(f"{self.title}: column {name!r} has {array.null_count} empty values")
        codes = array.indices.to_numpy(zero_copy_only=False)
        return Labels(tuple(array.dictionary.to_pylist()), codes.astype(np.int32, copy=False))

    def numbers(self, name: str) -> Float[np.ndarray, " rows"]:
        return self._floats(self.column(name), name).reshape(-1)

    def flags(self, name: str, rows: int) -> Bool[np.ndarray, " rows"]:
        if name not in self.columns:
            return np.zeros(rows, dtype=bool)
        return np.asarray(self.columns[name]).astype(bool).reshape(-1)

    def boxes(self) -> Float[np.ndarray, "rows 4"]:
        if "box" in self.columns:
            boxes = self._floats(_nested(self.columns["box"]), "box")
            if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4):
                raise InputError(f"{self.title}: column 'box' has shape {boxes.shape}, not (n, 4)")
            boxes = boxes.reshape(-1, 4)
        else:
            sides = [self.numbers(name) for name in SIDES]
            self.same_length(*sides)
            boxes = np.stack(sides, axis=1)
        bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.title}: {len(bad)} boxes are not finite; row {bad[0]} has "
                f"{boxes[bad[0]].tolist()}"
            )
        return boxes

    def same_length(self, *columns: np.ndarray) -> None:
        lengths = [len(column) for column in columns]
        if len(set(lengths)) > 1:
            raise InputError(f"{self.title}: columns differ in length, {lengths}")

    def refuse(
        self,
        bad: Bool[np.ndarray, " rows"],
        what: str,
        images: Labels,
        boxes: Float[np.ndarray, "rows 4"] | None = None,
    ) -> None:
        if not bad.any():
            return
        row = int(np.flatnonzero(bad)[0])
        box = "" if boxes is None else f": {boxes[row].tolist()}"
        raise InputError(
            f"{self.title}: row {row} of image {images.names[images.codes[row]]!r} {what}{box} "
            f"({int(bad.sum())} such rows); correct or drop them"
        )

    def _floats(self, column: Any, name: str) -> np.ndarray:
        try:
            array = np.asarray(column)
            keeps = array.dtype in (np.float32, np.float64)  # float32 halves 10 million boxes
            return array if keeps else array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.title}: column {name!r} must hold numbers: {error}") from error


def _by_name(table: TableLike, title: str) -> Mapping[str, Any]:
    if isinstance(table, pa.Table):
        arrow: Any = table  # pyarrow has no types that pyright could follow
        return {name: arrow.column(name) for name in arrow.column_names}
    if isinstance(table, Mapping):
        return table
    if isinstance(table, Frame):
        return {str(name): np.asarray(table[name]) for name in table.columns}
    return _transpose(table, title)


def _transpose(rows: Iterable[Mapping[str, Any]], title: str) -> Mapping[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        columns = columns or {name: [] for name in row}
        # "difficult" may be given only where it is true
        if "difficult" in row and "difficult" not in columns:
            columns["difficult"] = [False] * number
        for name, values in columns.items():
            if name not in row and name != "difficult":
                raise InputError(f"{title}: row {number} has no {name!r}, row 0 has")
            values.append(row.get(name, False))
    return columns


def _arrow(column: Any) -> pa.DictionaryArray:
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    array = column if isinstance(column, pa.Array) else pa.array(column, from_pandas=True)
    if isinstance(array, pa.NullArray):
        array = array.cast(pa.string())
    return array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()


def _nested(column: Any) -> Any:
    """A column of boxes as rows of four, from Arrow lists or arrays of arrays."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ListArray | pa.FixedSizeListArray) and not column.null_count:
        lengths: Any = pc.call_function("list_value_length", [column])
        if (lengths.to_numpy(zero_copy_only=False) == 4).all():
            return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    if isinstance(column, pa.Array):
        return np.array(column.to_pylist() or np.empty((0, 4)))
    if isinstance(column, np.ndarray) and column.dtype == object:
        return np.array([np.asarray(box) for box in column])
    return column
