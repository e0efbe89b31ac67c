"""Answers on a screen, on a pipe, and for programs."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import InputError
from pipeline.printable import lines, one_line

NUMBERS_SHOWN = 4  # of a vector


def print_json(content: Any) -> None:
    """Print content as JSON."""
    typer.echo(json.dumps(content, indent=1, default=str))


def say(text: str, err: bool = False) -> None:
    """Print text as it is, but for orders to a terminal that names from outside may hold."""
    typer.echo(lines(text), err=err)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of an answer.

    Raises:
        InputError: Python has no such dates or times.
    """
    try:
        return table.to_pylist()
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"the answer cannot be shown ({error}): cast its dates, times and texts to plain ones"
        ) from None


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print cells as they are: what comes from outside is no markup."""
    console().print(table(columns, rows))


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    """Return cells as they are, under the names of their columns."""
    made = Table(box=None)
    for name in columns:
        made.add_column(Text(one_line(name)))
    for row in rows:
        made.add_row(*(Text(_cell(value)) for value in row))
    return made


def console() -> Console:
    """Return where answers go. A pipe has no width: a row stays on its line there, for grep."""
    return Console(width=None if sys.stdout.isatty() else 100_000, highlight=False, emoji=False)


def number(value: Any) -> str:
    """Return a whole number with its thousands set apart, anything else as it is."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def headline(summary: Mapping[str, Any]) -> str:
    """Return a summary's numbers and words on one line."""
    plain = {k: v for k, v in summary.items() if isinstance(v, str | int | float) and v != ""}
    return ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in plain.items())


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list) and len(value) > NUMBERS_SHOWN and _are_numbers(value):
        first = ", ".join(f"{each:.4g}" for each in value[:NUMBERS_SHOWN])
        return f"[{first}, … {len(value):,}]"
    return one_line(str(value))


def _are_numbers(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
