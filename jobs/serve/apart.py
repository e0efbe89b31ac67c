"""Searches in SQL, each in a process that can be ended.

DuckDB looks at its bounds between steps, and `repeat('x', 2000000000)` is a single one, of any
length and memory. In a process of its own such a call ends with that process, and nobody else
notices. `jobs.serve.searcher` is what runs there: a question a line in, an answer a line out.
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jobs.serve import searching
from jobs.serve.searching import Found, Hit, memory_bytes
from pipeline.apart import own_path
from pipeline.errors import InputError

START_S = 120.0  # imports, on a busy machine
GRACE_S = 2.0  # for DuckDB to end by itself, and say so
LOOK_S = 0.1


class Apart:
    """Asks a store in SQL as `Searching` does, in other processes. Safe in threads."""

    def __init__(self, named: str, runs: Path, data: Path | None, set_: list[str] | None) -> None:
        """Start the first process: who asks first should not wait for it.

        Args:
            named: the store, as for `ask`, and so are the others.
            runs: see there.
            data: see there.
            set_: see there.
        """
        places = [str(runs.resolve()), None if data is None else str(data.resolve())]
        self._named = json.dumps([named, *places, set_ or []])
        self._lock, self._closed = threading.Lock(), False
        self._idle = [_Child(self._named)]
        self._busy: set[_Child] = set()

    def sql(self, query: str, start: int, size: int, left: threading.Event) -> Found:
        """Return a page of a query's answer; once `left` is set nobody waits for it.

        Raises:
            InputError: as for `Searching.sql`; or it took so much that its process was ended.
        """
        with self._taken() as child:
            return _found(child.ask([query, start, size], left))

    @contextmanager
    def _taken(self) -> Iterator["_Child"]:
        with self._lock:
            child = self._idle.pop() if self._idle else _Child(self._named)
            if not child.is_alive():  # while it waited: somebody ended it
                child = _Child(self._named)
            self._busy.add(child)
        try:
            yield child
        finally:
            with self._lock:
                self._busy.discard(child)
                if self._closed:
                    child.end()
                else:
                    # The next one is on its way while nobody waits for it.
                    self._idle.append(child if child.is_alive() else _Child(self._named))

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            for child in self._idle:
                child.end()
            for child in self._busy:
                child.kill()


class _Child:
    """One process, which answers one question at a time."""

    def __init__(self, named: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if k != "SPP_TOKEN"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "jobs.serve.searcher", named],
            env={**inherited, "PYTHONPATH": own_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the server's; this ends with its questions
        )
        self._is_ready = False

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Have it end; who waits for its answer is told, and ends the rest."""
        self._process.kill()

    def end(self) -> None:
        self.kill()
        self._process.communicate()  # closes what leads there

    def ask(self, asked: list[Any], left: threading.Event) -> Mapping[str, Any]:
        """Return the answer to a question.

        Raises:
            InputError: there is none in time, or the process has ended.
        """
        if not self._is_ready:
            try:
                self._answer(START_S, left)
            except InputError as error:
                raise InputError(f"searching cannot begin: {error}") from None
            self._is_ready = True
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: then there is no answer
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        return self._answer(searching.SEARCH_S + GRACE_S, left)

    def _answer(self, limit_s: float, left: threading.Event) -> Mapping[str, Any]:
        out, end_s = self._process.stdout, time.monotonic() + limit_s
        assert out is not None
        while not select.select([out], [], [], LOOK_S)[0]:
            if left.is_set():
                self.end()
                raise InputError("the query was stopped: nobody waits for its answer")
            if time.monotonic() > end_s:
                self.end()
                raise InputError(
                    f"nothing came for {limit_s:g} s, in one step of a query, and it was ended: "
                    "narrow it"
                )
        line = out.readline()
        if not line.endswith("\n"):
            self.end()
            raise InputError(
                "the process of the query has ended: it may have taken more memory than a search "
                f"may, {memory_bytes() / 1e9:.1f} GB: narrow it"
            )
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"])
        return answer


def _found(answer: Mapping[str, Any]) -> Found:
    hits = answer["hits"]
    return Found(
        answer["told"],
        None if hits is None else [Hit(**hit) for hit in hits],
        tuple(answer["columns"]),
        tuple(answer["rows"]),
        answer["more"],
    )
