"""`spp status`: how far the jobs of a recipe are, whether a run is at work, dead or elsewhere."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from actors import pace
from jobs import dag, last_run, show, steps, tables
from jobs.job import State, Step
from jobs.observing import Observer
from jobs.options import DataOption, JsonOption, RunsOption, SetOption, load
from pipeline.store.files import read_json

Rows = Sequence[Mapping[str, Any]]
ENDED = (State.done, State.failed, State.blocked)
FAILED_SHOWN = 5  # shards; the job's own reason counts all
COLUMNS = ("job", "state", "progress", "rate", "left", "seconds", "result")


def status(
    recipe: Annotated[
        str, typer.Argument(help="A recipe or a table: a TOML file, or the name of a shipped one.")
    ],
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it until all is done or failed.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often, with --watch.")
    ] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Show how far jobs are, at work or dead.

    Of a recipe or a table: progress, rate, time left, figures, and reasons in full. It asks no
    driver, so it tells the same from any machine that sees --runs.

    Examples:
        spp status digits
        spp status digits --watch --every 5
    """
    name, planned, usual = _planned(recipe, runs, data, set_)
    observer = Observer(planned, dag.upstream(planned, usual))
    if watch:
        _watch(observer, runs / name / last_run.RUN, every, as_json)
        return
    rows = observer.rows()
    for row in rows:  # once: a listing of 100,000 shards is no look that is taken again and again
        row["damage"] = planned[row["job"]].damage
    if as_json:
        show.print_json(rows)
    else:
        show.console().print(_shown(rows), soft_wrap=True)


def _planned(
    named: str, runs: Path, data: Path | None, set_: list[str] | None
) -> tuple[str, Mapping[str, Step], Iterable[str]]:
    """Return the name of a recipe or table, its jobs, and those that a run brings it to."""
    if tables.is_table(named):
        name, file, folder = tables.read(named)
        suite, wanted = tables.plan(file, tables.recipes(file, folder, set_ or [], data), runs)
        return name, suite.steps, wanted
    known = load(named, set_, data)
    return known.name, dag.plan(steps.jobs_of(known), known, runs), steps.targets(known, "run")


def _watch(observer: Observer, run: Path, every_s: float, as_json: bool) -> None:
    """Show the rows again and again, until nothing is left to wait for or Ctrl-C."""
    try:
        if as_json:
            for rows in _looks(observer, run, every_s):
                typer.echo(json.dumps(rows, default=str))
            return
        console = show.console()
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                for rows in _looks(observer, run, every_s):
                    live.update(_shown(rows), refresh=True)
            return
        for rows in _looks(observer, run, every_s):
            console.print(Text(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z}"))
            console.print(_shown(rows), soft_wrap=True)
    except KeyboardInterrupt:
        return


def _looks(observer: Observer, run: Path, every_s: float) -> Iterator[Rows]:
    while True:
        rows = observer.rows()
        yield rows
        if _is_over(rows, (read_json(run) or {}).get("wanted")):
            return
        time.sleep(every_s)


def _is_over(rows: Rows, wanted: Sequence[str] | None) -> bool:
    """Whether nothing runs, and what the last run was asked for is done, failed or blocked."""
    if any(row["state"] == State.running for row in rows):
        return False
    return all(row["state"] in ENDED for row in rows if wanted is None or row["job"] in wanted)


def _shown(rows: Rows) -> Group:
    """Return a table of the jobs, and what takes more than a cell below it."""
    lines = [line for row in rows for line in _remarks(row)]
    return Group(show.table(COLUMNS, map(_cells, rows)), *map(Text, lines))


def _cells(row: Mapping[str, Any]) -> list[str]:
    job, state, seconds = row["job"], row["state"], row["seconds"]
    told = row["progress"]
    progress = rate = left = ""
    result = "see below" if state == State.failed else row["result"]
    if told:
        share = min(told["done"] / told["total"], 1) if told["total"] else 1
        progress = f"{told['done']:,} of {told['total']:,} {told['of']} ({share:.0%})"
        rates = (pace.a_minute(told["per_second"]), pace.a_minute(told["rows_per_second"], " rows"))
        rate = ", ".join(filter(None, rates))
        left = "" if told["left_s"] is None else pace.duration(told["left_s"])
        result = result or _amounts(told)
    return [job, state, progress, rate, left, "" if seconds is None else str(seconds), result]


def _amounts(told: Mapping[str, Any]) -> str:
    """Say what was committed so far."""
    if not told.get("rows"):
        return ""
    amounts = show.headline({name: told[name] for name in ("images", "rows", "bytes")})
    return amounts if told["exact"] else f"about {amounts}"


def _remarks(row: Mapping[str, Any]) -> Iterator[str]:
    """Say what takes more than a cell: why it stands still, and where the time went."""
    job, state, told = row["job"], row["state"], row["progress"]
    if row.get("damage"):
        yield f"✗ {job} is done, but {row['damage']}: the next run makes again what is missing"
    if row["error"] is not None:
        yield f"✗ {job}: {row['error']}"
    if state == State.interrupted:
        by = [f"{name} {value}" for name, value in row["begun_by"].items() if value]
        where = ", ".join([*by, f"last sign {row['last_sign']}"])
        yield f"{job} was interrupted ({where}): the same command goes on where it stopped"
    if state == State.running and told and told["last"] and told["per_second"] is None:
        yield f"{job}: the last of its {told['of']} was finished at {told['last']}"
    if state == State.running and row["workers"]:
        yield f"{job}: {_workers(row['workers'])}"
    failed = list(row["shards_failed"].items())
    for shard_id, reason in failed[:FAILED_SHOWN]:
        yield f"{job}: shard {shard_id} was given up: {reason}"
    if len(failed) > FAILED_SHOWN:
        yield f"{job}: {len(failed) - FAILED_SHOWN:,} more shards were given up; --json has all"
    if row["stages"]:
        yield f"{job}: {_times(row['stages'])}"


def _workers(told: Mapping[str, Any]) -> str:
    parts = [f"{told['up']} workers up"] if told.get("up") is not None else []
    parts += [f"{told['died']} died"] if told.get("died") else []
    room = told.get("waiting_for_room")
    parts += [f"waiting for room: {show.headline(room)}"] if room else []
    return ", ".join(parts)


def _times(stages: Mapping[str, Any]) -> str:
    parts = [f"bound by {stages['bound_by']}"] if stages.get("bound_by") else []
    for what, name in (("at work", "worker_seconds"), ("waited for", "waited_seconds")):
        told = [f"{stage} {spent:,.1f} s" for stage, spent in stages.get(name, {}).items()]
        parts += [f"{what}: {', '.join(told)}"] if told else []
    return "; ".join(parts)
