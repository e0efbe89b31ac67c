"""Answers to queries as text and as files: a table for eyes, CSV, JSON, JSON lines, Parquet."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.store.answer import Answer
from pipeline.store.files import written_aside

ROWS_SHOWN = 100  # on a screen


def save(answer: Answer, path: Path) -> int:
    """Write an answer in the format that the file's name ends in, whole or not at all.

    Returns:
        How many rows there were.

    Raises:
        InputError: no such format, or it cannot hold a column.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_TEXTS, ".parquet"):
        raise InputError(f"{path}: the name must end in {', '.join([*_TEXTS, '.parquet'])}")
    with written_aside(path) as aside:
        if suffix == ".parquet":
            return _write_parquet(answer, aside, path)
        with aside.open("w", encoding="utf-8", newline="") as file:
            return _TEXTS[suffix](answer, file)


def show(answer: Answer, suffix: str) -> None:
    """Print an answer as a file of that name would have it."""
    with _stdout() as file:
        _TEXTS[suffix](answer, file)


def first_rows(answer: Answer) -> tuple[list[list[Any]], int]:
    """Return the rows for a screen, and how many there are: vectors of no others are read."""
    shown, count = list[list[Any]](), 0
    for batch in answer.unread():
        wanted = batch.slice(0, max(ROWS_SHOWN - count, 0))
        shown.extend(row for part in answer.read(wanted) for row in _rows(part))
        count += len(batch)
    return shown, count


def _write_parquet(answer: Answer, aside: Path, path: Path) -> int:
    plain: Any = [field.name for field in answer.schema if not pa.types.is_nested(field.type)]
    count = 0
    try:
        with pq.ParquetWriter(aside, answer.schema, use_dictionary=plain) as writer:
            for batch in answer:
                writer.write_batch(batch)
                count += len(batch)
    except pa.ArrowException as error:
        raise InputError(f"{path}: {error}. Cast the column in the query, or use .csv") from None
    return count


def _write_csv(answer: Answer, file: TextIO) -> int:
    writer, count = csv.writer(file), 0  # by default as RFC 4180 says: CRLF, quotes doubled
    writer.writerow(answer.schema.names)
    for row in _all_rows(answer):
        writer.writerow(map(_csv_cell, row))
        count += 1
    return count


def _write_json(answer: Answer, file: TextIO) -> int:
    count = 0
    for text in _objects(answer):
        file.write(",\n " if count else "[\n ")
        file.write(text)
        count += 1
    file.write("\n]\n" if count else "[]\n")
    return count


def _write_json_lines(answer: Answer, file: TextIO) -> int:
    count = 0
    for text in _objects(answer):
        file.write(f"{text}\n")
        count += 1
    return count


_TEXTS: dict[str, Callable[[Answer, TextIO], int]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".jsonl": _write_json_lines,
}


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """Yield the standard output in UTF-8, whatever the terminal is set to, its line ends kept."""
    file = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        yield file
    finally:
        file.detach()


def _all_rows(answer: Answer) -> Iterator[list[Any]]:
    for batch in answer:
        yield from _rows(batch)


def _objects(answer: Answer) -> Iterator[str]:
    for row in _all_rows(answer):
        content = dict(zip(answer.schema.names, map(_plain, row), strict=True))
        yield _json(content)


def _rows(batch: pa.RecordBatch) -> Iterator[list[Any]]:
    columns = map(_values, batch.schema.names, batch.columns)
    return map(list, zip(*columns, strict=True))


def _values(name: str, column: pa.Array) -> list[Any]:
    """Return a column's values; of a float32 the number that is written shortest."""
    kind = column.type
    single = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    try:
        values = column.to_pylist()
    except (OverflowError, ValueError) as error:  # such as infinity, which SQL's dates may be
        raise InputError(
            f"the column {name} of the answer has a value that Python's {kind} cannot hold "
            f"({error}): cast the column to VARCHAR, or write the answer to a .parquet file"
        ) from None
    if single != pa.float32():
        return values
    return [_shortest(value) for value in values]


def _shortest(value: Any) -> Any:
    if isinstance(value, list):
        return [_shortest(each) for each in value]
    return None if value is None else float(str(np.float32(value)))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value


def _json(content: Any) -> str:
    # Dates and the like as text.
    return json.dumps(content, ensure_ascii=False, default=str, allow_nan=False)


def _csv_cell(value: Any) -> Any:
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple() | dict():
            return _json(_plain(value))
        case bytes():
            return value.hex()
    return value  # None is an empty cell
