"""`spp table` and `spp combine`: recipes and combinations of their models, side by side."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import show, suite, tables
from jobs.execution import FAILED, INTERRUPTED, USAGE, execute_suite
from jobs.options import (
    AddressOption,
    DataOption,
    JsonOption,
    RunsOption,
    SerialOption,
    SetOption,
    StoresOption,
    load,
)
from jobs.tables import TableFile, TableRow
from pipeline.config import Recipe
from pipeline.errors import RecipeError
from pipeline.report.tables import markdown, percent
from pipeline.store.files import write_json, written_aside

_NAME, _TAKEN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), ("jobs", "streamed")


@dataclass(frozen=True)
class Line:
    """What a row came to."""

    name: str
    value: float | None
    """Of the table's measure."""
    spread: float | None
    """Its standard deviation over random splits, where there are some."""
    ap: dict[str, float | None]
    conv_s: float | None
    """Seconds an image, of one worker; None for combinations, and where a run before took them."""
    fc_s: float | None
    """Pooling, and the fc layers where there are some."""


def table(
    named: Annotated[str, typer.Argument(metavar="TABLE", help="A TOML file, or a shipped name.")],
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    serial: SerialOption = False,
    address: AddressOption = None,
    stores: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run every row of a table, what they share once, and print them side by side.

    --set changes every row. Shipped: table3 to table6, table8 and table9 of the paper, and in
    small table4_caltech_subset, table6_digits, table6_voc_subset and table9_digits.
    """
    name, file, folder = tables.read(named)
    known = tables.recipes(file, folder, set_ or [], data)
    raise typer.Exit(_run(name, file, known, runs, serial, address, stores, as_json))


def combine(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Two or more.")],
    name: Annotated[str, typer.Option(help="Of the folder in --runs that the table goes to.")] = (
        "combination"
    ),
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    serial: SerialOption = False,
    address: AddressOption = None,
    stores: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Combine the models of several recipes: their scored windows are pooled and suppressed once.

    Prints each alone and the combination (paper §4.4).
    """
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise RecipeError(f"--name is {name!r}: give a word that names a folder in --runs")
    loaded = [load(each, set_, data) for each in recipes]
    known = {each.name: each for each in loaded}
    if len(known) < len(loaded):
        raise RecipeError("two of these recipes have one name: give each its own")
    rows = [TableRow(name=each, recipe=each) for each in known]
    if len(rows) < 2:
        raise RecipeError("a combination takes two models or more: name another recipe")
    both = TableRow(name="combination", combine=tuple(known))
    file = TableFile(title="Each alone, and combined", per_class=True, rows=(*rows, both))
    raise typer.Exit(_run(name, file, known, runs, serial, address, stores, as_json))


def _run(
    name: str,
    file: TableFile,
    recipes: dict[str, Recipe],
    runs: Path,
    serial: bool,
    address: str | None,
    stores: str | None,
    as_json: bool,
) -> int:
    combinations = {row.name: row.combine for row in file.rows if row.combine}
    planned = suite.plan(recipes, combinations, runs.resolve())
    targets = tuple(
        dict.fromkeys(
            planned.places[row.name][job] for row in file.rows for job in ("evaluate", "report")
        )
    )
    first = next(iter(recipes.values()))
    given = (planned.steps, targets, runs, serial, address, as_json, stores)
    code = execute_suite(name, first, *given)
    if code in (FAILED, USAGE, INTERRUPTED):
        return code
    lines = [_line(planned, row, file.measure) for row in file.rows]
    text = format_table(file, lines)
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(folder / "table.md") as aside:
        aside.write_text(text, encoding="utf-8")
    rows = [asdict(line) | {"paper": row.paper} for line, row in zip(lines, file.rows, strict=True)]
    folders = {
        row.name: {job: planned.step(row.name, job).folder.name for job in ("evaluate", "report")}
        for row in file.rows
    }
    write_json(folder / "table.json", {"title": file.title, "rows": rows, "folders": folders})
    if as_json:
        show.print_json(rows)
    else:
        typer.echo(text)
        typer.echo(f"kept as {folder / 'table.md'}; each row's pictures: see table.json")
    return code


def _line(planned: suite.Suite, row: TableRow, measure: str) -> Line:
    judged = (planned.step(row.name, "evaluate").record or {})["summary"]
    known = "mAP" if measure == "mAP" else "mean_accuracy"
    conv_s = fc_s = None
    if not row.combine:
        made = [job for job in ("extract_test", "extract_train") if job in planned.places[row.name]]
        store = (planned.step(row.name, made[0]).record or {})["summary"]
        spent, images = store.get("worker_seconds", {}), store["images"]
        if store.get("worker", {}).get("seconds_per_image"):
            conv_s = spent.get("network", 0.0) / images
            fc_s = (spent.get("pooling", 0.0) + spent.get("fc", 0.0)) / images
    value, spread = judged.get(known), judged.get(f"{known}_std")
    return Line(row.name, value, spread, judged["ap"], conv_s, fc_s)


def format_table(file: TableFile, lines: Sequence[Line]) -> str:
    """Return a table as Markdown: its measure and the paper's, seconds an image, and the ratio."""
    header = ["", file.measure]
    columns = [[line.name for line in lines], [_value(line) for line in lines]]
    if any(row.paper is not None for row in file.rows):
        header.append("paper")
        columns.append(["" if row.paper is None else _as_printed(row.paper) for row in file.rows])
    if any(line.conv_s is not None for line in lines):
        header += ["conv s/image", "pooling + fc s/image"]
        columns += [[_seconds(line.conv_s) for line in lines], [_seconds(x.fc_s) for x in lines]]
    if file.baseline is not None:
        base = next(_total(line) for line in lines if line.name == file.baseline)
        header.append(f"times as fast as {file.baseline}")
        columns.append([_ratio(base, _total(line)) for line in lines])
    if any(row.paper_s is not None for row in file.rows):
        header.append("paper s/image")
        columns.append([_seconds(row.paper_s) for row in file.rows])
    parts = [f"## {file.title}", markdown(header, list(zip(*columns, strict=True)))]
    if file.per_class:
        parts.append(_by_class(file, lines))
    told = "AP in percent."
    if file.measure == "accuracy":
        told = "Accuracy of the mean class, in percent"
        several = any(line.spread is not None for line in lines)
        told += ", ± its standard deviation over random splits." if several else "."
    if any(line.conv_s is not None for line in lines):
        told += " Seconds are one worker's, by the clock, beside whatever else ran."
    parts.append(told)
    return "\n\n".join([*parts, file.note.strip()]).strip() + "\n"


def _by_class(file: TableFile, lines: Sequence[Line]) -> str:
    """Return the AP of each class, the paper's beside."""
    header, columns = ["class"], [[*map(str, lines[0].ap)]]
    for row, line in zip(file.rows, lines, strict=True):
        header.append(row.name)
        columns.append([_ap(line.ap.get(name)) for name in lines[0].ap])
        if row.paper_ap is not None:
            header.append("paper")
            columns.append([f"{each:.1f}" for each in row.paper_ap])
    return markdown(header, list(zip(*columns, strict=True)))


def _value(line: Line) -> str:
    spread = "" if line.spread is None else f" ± {100 * line.spread:.1f}"
    return _ap(line.value) + spread


def _as_printed(value: float) -> str:
    """Return a figure of the paper with its own decimals: some tables have two."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def _total(line: Line) -> float | None:
    return None if line.conv_s is None or line.fc_s is None else line.conv_s + line.fc_s


def _ratio(base: float | None, own: float | None) -> str:
    return f"{base / own:.1f}" if base and own else ""


def _seconds(spent: float | None) -> str:
    return "" if spent is None else f"{spent:.3f}"


def _ap(value: Any) -> str:
    return percent(math.nan if value is None else value)
