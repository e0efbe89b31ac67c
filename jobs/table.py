"""`spp table` and `spp combine`: recipes and combinations of their models, side by side."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs import show, tables
from jobs.execution import execute_suite
from jobs.exit_codes import FAILED, INTERRUPTED, USAGE
from jobs.lines import format_table, line_of
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
from jobs.table_file import TableFile, TableRow
from pipeline.config import Recipe
from pipeline.errors import RecipeError
from pipeline.store.files import write_json, written_aside

_NAME, _TAKEN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), ("jobs", "streamed")


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
    """Run every row of a table, side by side.

    What rows share is run once. --set changes every row. Shipped: table1 to table6, table8 and
    table9 of the paper, and in small table1_digits, sizes_digits, table1_caltech_subset,
    table4_caltech_subset, table6_digits, table6_voc_subset, table9_digits, table9_voc_subset,
    scales_voc07 and scales_caltech_subset.

    Examples:
        spp table table6_digits
        spp table table8 --data data/
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
    """Combine the models of several recipes.

    Their scored windows are pooled and suppressed once (paper section 4.4). Prints each alone and
    the combination.

    Examples:
        spp combine a.toml b.toml
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
    planned, targets = tables.plan(file, recipes, runs)
    first = next(iter(recipes.values()))
    given = (planned.steps, targets, runs, serial, address, as_json, stores)
    code = execute_suite(name, first, *given)
    if code in (FAILED, USAGE, INTERRUPTED):
        return code
    lines = [line_of(planned, row, file) for row in file.rows]
    text = format_table(file, lines)
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(folder / "table.md") as aside:
        aside.write_text(text, encoding="utf-8")
    rows = [
        asdict(line) | {"paper": row.paper, "paper_top5": row.paper_top5}
        for line, row in zip(lines, file.rows, strict=True)
    ]
    folders = {
        name: {job: planned.step(name, job).folder.name for job in file.jobs}
        for name in file.all_members
    }
    write_json(folder / "table.json", {"title": file.title, "rows": rows, "folders": folders})
    if as_json:
        show.print_json(rows)
    else:
        show.say(text)
        show.say(f"kept as {folder / 'table.md'}; each row's folders: see table.json")
    return code
