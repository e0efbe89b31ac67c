"""`spp export`: a copy of a store for other programs."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from jobs import show
from jobs.asked import ask
from jobs.options import DataOption, JsonOption, RunsOption, SetOption, StoreArgument
from pipeline.store import portable
from pipeline.store.place import place


class Dtype(StrEnum):
    """Of the numbers in a vector."""

    float32 = "float32"
    float16 = "float16"


def export(
    named: StoreArgument,
    to: Annotated[str, typer.Argument(metavar="FOLDER", help="An empty folder, or a URI.")],
    portable_: Annotated[
        bool, typer.Option("--portable", help="Parquet that any reader opens: the only kind yet.")
    ] = True,
    dtype: Annotated[
        Dtype, typer.Option(help="Of the vectors; not every reader knows float16.")
    ] = Dtype.float32,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a store for DuckDB, polars and others.

    Into Parquet that needs no code of ours. Run it again to go on with it.

    Examples:
        spp export digits:test portable/
    """
    del portable_
    held = ask(named, runs, data, set_).store
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("shards", total=len(held.shards))
        done = portable.export(
            held, place(to), dtype.value, lambda number: bar.update(task, completed=number)
        )
    if as_json:
        show.print_json(asdict(done))
        return
    kept = f", {done.files - done.made} of them there already" if done.made < done.files else ""
    show.say(f"{to}: {done.rows:,} rows in {done.files} files{kept}, {done.bytes:,} bytes")
