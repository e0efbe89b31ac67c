"""What a query may take at most, where others use the same machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb

from pipeline.errors import InputError

LOOK_S = 0.1  # between looks whether it is time


@dataclass(frozen=True)
class Bounds:
    """Of one query."""

    limit_s: float
    memory_bytes: int
    """Of DuckDB's own; vectors that are read come on top."""
    aside_bytes: int
    """On the disk, of what does not fit in memory."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Once it is set the query ends: nobody waits for its answer."""


def bound(connection: duckdb.DuckDBPyConnection, bounds: Bounds) -> None:
    """Bound what a connection takes of memory and disk."""
    connection.execute(f"SET memory_limit = '{bounds.memory_bytes} bytes'")
    connection.execute(f"SET max_temp_directory_size = '{bounds.aside_bytes} bytes'")


@contextmanager
def ended_in_time(connection: duckdb.DuckDBPyConnection, bounds: Bounds) -> Iterator[None]:
    """Interrupt what a connection does once the time is up, or nobody waits any more.

    Raises:
        InputError: that came to pass.
    """
    end_s, done, why = time.monotonic() + bounds.limit_s, threading.Event(), ""

    def watch() -> None:
        nonlocal why
        while not done.wait(LOOK_S):
            if why := _why(bounds, end_s):
                connection.interrupt()  # again and again: between two steps there is nothing to end

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    except InputError as error:
        raise (InputError(why) if why else error) from None
    finally:
        done.set()
        watching.join()


def _why(bounds: Bounds, end_s: float) -> str:
    """Return why a query has to end; nothing while it need not."""
    if bounds.stopped.is_set():
        return "the query was given up: nobody waits for its answer"
    if time.monotonic() > end_s:
        return (
            f"the query took more than {bounds.limit_s:g} s, the limit here: narrow it with WHERE, "
            "mend its joins, or ask it with spp query, which has no limit"
        )
    return ""
