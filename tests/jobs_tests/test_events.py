"""The log: whole lines whatever is told and whoever dies, and read from where one was."""

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.events import Events, read_events, time_s

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def told(path: Path, after: int = 0) -> list[dict[str, Any]]:
    return [event for event, _ in read_events(path, after)]


def numbers(path: Path) -> list[int]:
    return [event["n"] for event in told(path)]


def test_an_event_is_a_line_with_its_time_its_kind_and_its_fields(path: Path) -> None:
    before = datetime.now(UTC)
    Events(path).write("shard_committed", shard_id="00003-ab", rows=17)
    (event,) = map(json.loads, path.read_text().splitlines())
    assert list(event) == ["time", "kind", "shard_id", "rows"]
    assert (event["kind"], event["shard_id"], event["rows"]) == ("shard_committed", "00003-ab", 17)
    assert event["time"].endswith("Z")
    assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(event["time"])
    assert datetime.fromisoformat(event["time"]) <= datetime.now(UTC)


class Unshowable:
    def __str__(self) -> str:
        raise ValueError


def test_whatever_is_told_becomes_json(path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    Events(path).write(
        "x",
        path=Path("a/b"),
        number=np.int64(3),
        half=np.float16(0.5),
        true=np.bool_(True),
        array=np.array([[1, 2], [3, 4]]),
        nan=float("nan"),
        infinities=[np.float32("inf"), {"y": float("-inf")}],
        keys={3: 4, (5, 6): {7}},
        time_of_day=datetime(2026, 11, 23, tzinfo=UTC),
        lines="one\ntwo\u2028three",
        odd_name=os.fsdecode(b"s\xe9.jpg"),
        circle=circle,
        unshowable=Unshowable(),
        error=ValueError("why"),
    )
    (line,) = path.read_text().splitlines()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    event = json.loads(line, parse_constant=refuse)  # other programs know no NaN
    assert {name: event[name] for name in list(event)[2:]} == {
        "path": "a/b",
        "number": 3,
        "half": 0.5,
        "true": True,
        "array": [[1, 2], [3, 4]],
        "nan": None,
        "infinities": [None, {"y": None}],
        "keys": {"3": 4, "(5, 6)": [7]},
        "time_of_day": "2026-11-23 00:00:00+00:00",
        "lines": "one\ntwo\u2028three",
        "odd_name": "s\udce9.jpg",
        "circle": "not written: RecursionError",
        "unshowable": "not written: ValueError",
        "error": "why",
    }


def test_reading_goes_on_from_where_it_was(path: Path) -> None:
    events, seen, after = Events(path), [], 0
    assert told(path) == []
    for n in range(5):
        events.write("x", n=n)
        for event, behind in read_events(path, after):
            seen.append(event["n"])
            after = behind
    assert seen == [0, 1, 2, 3, 4]
    assert after == path.stat().st_size
    assert told(path, after) == []


def test_only_what_is_new_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events(path)
    for n in range(100):
        events.write("x", n=n)
    *_, (_, after) = read_events(path)
    events.write("x", n=100)
    parsed: list[bytes] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda line: parsed.append(line) or loads(line))
    assert [event["n"] for event in told(path, after)] == [100]
    assert len(parsed) == 1


def test_a_file_that_was_put_in_its_place_is_read_from_its_beginning(path: Path) -> None:
    Events(path).write("x", n=1, much="." * 1000)
    *_, (_, after) = read_events(path)
    path.unlink()
    Events(path).write("x", n=2)
    assert [event["n"] for event in told(path, after)] == [2]


@pytest.mark.parametrize("cut", [1, 10, -1])
def test_a_line_cut_by_a_kill_is_passed_over_and_the_next_writer_starts_a_line(
    path: Path, cut: int
) -> None:
    events = Events(path)
    for n in range(3):
        events.write("x", n=n)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:cut])
    assert numbers(path) == [0, 1]  # it may still be at work
    *_, (_, after) = read_events(path)
    Events(path).write("x", n=3)
    whole = [2] if cut == -1 else []  # all of it but its end
    assert numbers(path) == [0, 1, *whole, 3]
    assert [event["n"] for event in told(path, after)] == [*whole, 3]


def test_lines_that_are_no_events_are_passed_over(path: Path) -> None:
    path.write_bytes(b'\n[1]\n"x"\n{"kind": 3}\n\xff\xfe\n{"n": 1}\n{"kind": "x", "n": 2}\n')
    assert numbers(path) == [2]


def test_lines_of_many_threads_and_processes_stay_whole(path: Path) -> None:
    events = Events(path)

    def write(first: int) -> None:
        for n in range(first, first + 200):
            events.write("x", n=n, much="." * 500)

    code = "import sys; from pathlib import Path; from jobs.events import Events\n"
    code += "for n in range(800, 1000): Events(Path(sys.argv[1])).write('x', n=n, much='.' * 500)"
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=PROJECT)
    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 800, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert other.wait(timeout=60) == 0
    assert path.read_bytes().count(b"\n") == 1000
    assert sorted(numbers(path)) == list(range(1000))


@contextmanager
def room_for(bytes_more: int, path: Path) -> Iterator[None]:
    """Let files of this process grow no more than that beyond the size of this one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + bytes_more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_lines_and_says_how_many(path: Path) -> None:
    events = Events(path)
    events.write("x", n=0)
    with room_for(10, path):
        events.write("x", n=1)  # ten bytes of it
        events.write("x", n=2)  # nothing
    cut = path.read_bytes().splitlines()[-1]
    assert cut == b'{"time": "'
    events.write("x", n=3)
    events.write("x", n=4)
    assert numbers(path) == [0, 3, 4]
    assert [event.get("lost") for event in told(path)] == [None, 2, None]


@pytest.mark.parametrize("place", ["/dev/full", "/no/such/folder/events.jsonl", "/"])
def test_a_place_that_takes_nothing_stops_nothing(place: str) -> None:
    Events(Path(place)).write("x", n=0)


@pytest.mark.parametrize("event", [{}, {"time": 3}, {"time": "yesterday"}])
def test_an_event_without_a_time_has_none(event: dict[str, Any]) -> None:
    assert time_s(event) is None
