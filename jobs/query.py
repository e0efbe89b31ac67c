"""`spp query`: ask a store in SQL."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs import answers, show
from jobs.asked import ask
from jobs.options import DataOption, JsonOption, RunsOption, SetOption, StoreArgument
from pipeline.detection import read_detections
from pipeline.learning import classifiers
from pipeline.store.sql import asking, explain


class Format(StrEnum):
    """How an answer is printed."""

    table = "table"
    csv = "csv"
    json = "json"


def query(
    named: StoreArgument,
    sql: Annotated[
        str, typer.Argument(help="Over the tables windows, images, objects and detections.")
    ],
    format_: Annotated[Format, typer.Option("--format", help="Of what is printed.")] = Format.table,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write there: .parquet, .csv, .json or .jsonl."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--explain", help="Tell the plan, and run nothing.")
    ] = False,
    classifiers_: Annotated[
        list[Path] | None,
        typer.Option(
            "--classifiers", metavar="FOLDER", help="Further classes for score(); may be repeated."
        ),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The table detections; default: the run's."),
    ] = None,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a store in SQL.

    Tables: windows, images, objects, detections. The last column of windows is for functions:
    score('CLASS', vector) of what the run has trained and what spp new was taught, cosine(vector,
    other), dot(vector, other) and vec(vector). By itself it only names its row: compare, sort and
    group vec(vector), which is FLOAT[n].

    Examples:
        spp query digits:test "SELECT source, count(*) FROM windows GROUP BY source"
        spp query digits:test "SELECT image_id, score('seven', vector) FROM windows ORDER BY 2 DESC"
        spp query digits:test "SELECT * FROM objects" --out objects.parquet
    """
    format_ = Format.json if as_json else format_
    asked = ask(named, runs, data, set_)
    known, found = asked.known_to(sql)
    known += [classifiers.load(each) for each in classifiers_ or ()]
    if detections is not None:
        found = read_detections(detections)
    held = asked.store
    if plan:
        said = explain(held, sql, None, known, found)
        show.print_json({"plan": said}) if format_ is Format.json else show.say(said)
        return
    with asking(held, sql, None, known, found) as answer:
        if out is not None:
            rows = answers.save(answer, out)
            said = {"file": str(out), "rows": rows}
            show.print_json(said) if as_json else show.say(f"{out}: {rows:,} rows")
        elif format_ is Format.table:
            shown, count = answers.first_rows(answer)
            show.print_table(answer.schema.names, shown)
            if len(shown) < count:
                show.say(f"{len(shown)} of {count:,} rows; --out FILE writes all", err=True)
        else:
            answers.show(answer, f".{format_}")
