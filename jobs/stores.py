"""`spp verify` and `spp query`: what a store holds, and the proof that it is whole."""

from typing import Annotated

import typer

from jobs import show
from jobs.execution import DONE, FAILED
from jobs.options import JsonOption, StoreArgument
from pipeline import store

ROWS_SHOWN = 100  # of a query's answer, on a screen


def verify(folder: StoreArgument) -> None:
    """Prove that a store is whole: every byte is read and held against its record."""
    held = store.open(folder)
    faults = held.verify()
    for fault in faults:
        typer.echo(f"{fault.shard_id} {fault.problem}")
    if not faults:
        typer.echo(f"{len(held.records)} shards, {len(held):,} rows: whole")
    else:
        typer.echo(
            "to mend: remove each shard named here with its file in records/, and done.json beside "
            "the store; then run the recipe again, which makes what is missing"
        )
    raise typer.Exit(FAILED if faults else DONE)


def query(
    folder: StoreArgument,
    sql: Annotated[str, typer.Argument(help="Over the tables windows, images and objects.")],
    as_json: JsonOption = False,
) -> None:
    """Ask a store in SQL."""
    answer = store.open(folder).sql(sql)
    if as_json:
        show.print_json(answer.to_pylist())
        return
    shown = answer.slice(0, ROWS_SHOWN)
    cells = (column.to_pylist() for column in shown.columns)
    show.print_table(shown.column_names, zip(*cells, strict=True))
    if len(shown) < len(answer):
        typer.echo(f"{len(shown)} of {len(answer):,} rows; --json gives all", err=True)
