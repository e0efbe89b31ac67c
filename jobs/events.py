"""The log of a job for programs: one JSON object a line, appended as things happen.

    {"time": "2026-11-23T00:42:10.123Z", "kind": "shard_committed", "shard_id": "00012-…", …}

The log tells what went on; it proves nothing. What is done is in the records alone, so a log that
cannot be written stops no work, and one that is lost takes nothing with it.
"""

import errno
import json
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"


class Events:
    """Appends to a log; for any number of threads, and one after the other for processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._lost = 0

    def write(self, kind: str, /, **fields: Any) -> None:
        """Append a line with the time; it is with the system when this returns.

        A disk that is full, or a folder that is gone, is no reason to lose the work that is told
        about: the line is dropped, and the next that can be written says how many were (`lost`).

        Args:
            kind: what happened, such as `shard_committed`.
            fields: what to say of it. Numpy's numbers and arrays become JSON's, what JSON does not
                know becomes its `str`, NaN and infinity become null.
        """
        now = time_text(time.time())
        told = {name: _writable(value) for name, value in fields.items()}
        with self._lock:
            lost = {"lost": self._lost} if self._lost else {}
            line = json.dumps({"time": now, "kind": kind} | told | lost).encode() + b"\n"
            try:
                _append(self.path, line)
            except OSError:
                self._lost += 1
            else:
                self._lost = 0


def _append(path: Path, line: bytes) -> None:
    """Add a line, on a line of its own whatever the writer before left behind.

    Opened for each: a shard takes seconds, and so nobody has to close it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def _writable(value: Any) -> Any:
    try:
        return _plain(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot even be shown; no run ends by it
        return f"not written: {type(error).__name__}"


def _plain(value: Any) -> Any:
    """Return the value in the types that JSON has."""
    match value:
        case float():
            return float(value) if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
    # Numbers and arrays of numpy have `tolist`, and tensors.
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def read_events(path: Path, after: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each event from `after` on, with the offset behind it, to go on from later.

    Lines that were cut when their writer died are passed over. The last one, while it has no end,
    is left for the next time: it may be at work.

    Args:
        path: of the log; there is nothing in one that does not exist.
        after: offset in bytes that an earlier call gave. In a file that is shorter by now, and so
            another one, reading starts at its beginning.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        if file.seek(0, os.SEEK_END) < after:
            after = 0
        file.seek(after)
        yield from _parsed(file, after)


def _parsed(lines: Iterable[bytes], after: int) -> Iterator[tuple[dict[str, Any], int]]:
    for line in lines:
        if not line.endswith(b"\n"):
            return
        after += len(line)
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("kind"), str):
            yield event, after


def time_text(seconds: float) -> str:
    """Return a time as the log has it, in UTC.

    >>> time_text(60.5)
    '1970-01-01T00:01:00.500Z'
    """
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def time_s(event: Mapping[str, Any]) -> float | None:
    """Return an event's time in seconds since 1970, or None where it has none.

    >>> time_s({"time": "1970-01-01T00:01:00.500Z"})
    60.5
    """
    try:
        return datetime.fromisoformat(event["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
