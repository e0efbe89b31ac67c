"""`spp status` on a screen, on a pipe and for programs."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs import dag, hold, options, show, status, steps
from jobs.events import Events
from jobs.job import Step
from jobs.telling import PLAN
from pipeline.store.files import write_json

Run = Callable[..., Any]
T = 1_800_000_000.0


@pytest.fixture
def planned(tiny: Path) -> dict[str, Step]:
    recipe = options.load(str(tiny), None, None)
    return dag.plan(steps.jobs_of(recipe), recipe, tiny.parent / "runs")


@pytest.fixture
def ask(tiny: Path, spp: Run) -> Run:
    return lambda *arguments: spp("status", tiny, "--runs", tiny.parent / "runs", *arguments)


def finish(step: Step, **summary: Any) -> None:
    write_json(step.folder / "done.json", {"seconds": 7.5, "summary": summary})


def interrupt(step: Step, shards: int = 20) -> None:
    """Leave the folder of an extraction that was killed after four shards, 15 s apart."""
    folder = step.folder / "store" / "records"
    folder.mkdir(parents=True)
    (step.folder / hold.LOCK).touch()
    for index in range(4):
        path = folder / f"{index}.json"
        path.write_text("{}")
        os.utime(path, (T + 15 * index,) * 2)
    plan = {
        "store": str(step.folder / "store"),
        "shards": shards,
        "images": 2000,
        "rows": 40_000,
        "bytes": 10**9,
    }
    write_json(step.folder / PLAN, plan)
    events = Events(step.folder / "events.jsonl")
    events.write("job_started", host="node7", pid=4321)
    spent = {"seconds": {"network": 30.0, "decode": 9.5}, "waits": {"decode": 1.5}, "total_s": 40}
    for index in range(4):
        amounts = {"rows": 2000, "images": 100, "bytes": 50_000_000}
        events.write("shard_committed", shard_id=str(index), **amounts, **spent)


def fail(step: Step, reason: str) -> None:
    write_json(step.folder / dag.ERROR, {"error": reason})


def cells(out: str, job: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if line.startswith(f" {job} ")]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_killed_extraction_is_told_in_full(planned: dict[str, Step], ask: Run) -> None:
    finish(planned["dataset_train"], classes=10)
    interrupt(planned["extract_train"])
    fail(planned["windows_test"], "the file [/x] is not there:\nfetch it")
    said = ask()
    assert said.code == 0
    assert cells(said.out, "dataset_train") == ["dataset_train", "done", "7.5", "classes 10"]
    assert cells(said.out, "extract_train") == [
        "extract_train",
        "interrupted",
        "4 of 20 shards (20%)",
        "4/min, 8,000 rows/min",
        "4 min",
        "images 400, rows 8,000, bytes 200,000,000",
    ]
    assert cells(said.out, "windows_test") == ["windows_test", "failed", "see below"]
    assert cells(said.out, "extract_test") == ["extract_test", "blocked"]
    below = said.out.partition("\n report ")[2].splitlines()[1:]
    assert below[:2] == ["✗ windows_test: the file [/x] is not there:", "fetch it"]
    assert below[2].startswith("extract_train was interrupted (")
    assert "host node7, pid 4321, last sign 20" in below[2]
    assert below[3] == (
        "extract_train: bound by network (75% of 160 s); "
        "at work: network 120.0 s, decode 38.0 s; waited for: decode 6.0 s"
    )


def test_json_has_all_that_is_shown(planned: dict[str, Step], ask: Run) -> None:
    interrupt(planned["extract_train"])
    rows = {row["job"]: row for row in json.loads(ask("--json").out)}
    assert list(rows) == list(planned)
    row = rows["extract_train"]
    assert (row["progress"]["done"], row["progress"]["total"]) == (4, 20)
    assert row["progress"]["per_second"] == 3 / 45
    assert row["progress"]["left_s"] == 16 * 15
    assert row["stages"]["worker_seconds"] == {"network": 120.0, "decode": 38.0}
    assert row["begun_by"] == {"host": "node7", "pid": 4321}
    assert row["last_sign"] > "2026"


def test_only_a_few_of_many_shards_that_were_given_up_are_shown(
    planned: dict[str, Step], ask: Run
) -> None:
    step = planned["extract_train"]
    interrupt(step)
    fail(step, "shards: 7 failed")
    for index in range(7):
        shard = {"shard_id": f"{index:05d}-ab", "error": f"reason {index}"}
        Events(step.folder / "events.jsonl").write("shard_failed", **shard)
    below = [line for line in ask().out.splitlines() if "given up" in line]
    assert below[0] == "extract_train: shard 00000-ab was given up: reason 0"
    assert below[5:] == ["extract_train: 2 more shards were given up; --json has all"]
    (row,) = [row for row in json.loads(ask("--json").out) if row["state"] == "failed"]
    assert len(row["shards_failed"]) == 7


def end(planned: dict[str, Step], after: int) -> Callable[[float], None]:
    """Return a `sleep` in which jobs go on: after so many naps all are done."""
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        assert seconds == 0.5
        assert len(naps) <= after
        if len(naps) == after:
            for step in planned.values():
                finish(step)

    return sleep


def test_watched_on_a_pipe_each_look_is_a_block_of_lines(
    planned: dict[str, Step], ask: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.status.time.sleep", end(planned, after=3))
    interrupt(planned["extract_train"])
    said = ask("--watch", "--every", "0.5")
    assert said.code == 0
    assert "\x1b" not in said.out
    assert said.out.count(" report ") == 4
    dated = [line for line in said.out.splitlines() if line.startswith("20")]
    assert len(dated) == 4
    assert cells(said.out.rpartition("20")[2], "report") == ["report", "done", "7.5"]


def test_watched_by_a_program_each_look_is_a_line(
    planned: dict[str, Step], ask: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.status.time.sleep", end(planned, after=2))
    looks = [json.loads(line) for line in ask("--watch", "--every=0.5", "--json").out.splitlines()]
    assert [{row["state"] for row in rows} for rows in looks] == [
        {"waiting"},
        {"waiting"},
        {"done"},
    ]


def test_watched_on_a_terminal_the_table_stays_in_its_place(
    planned: dict[str, Step], ask: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.status.time.sleep", end(planned, after=2))
    text = io.StringIO()
    monkeypatch.setattr(
        show, "console", lambda: Console(file=text, force_terminal=True, width=120, height=40)
    )
    assert ask("--watch", "--every", "0.5").code == 0
    assert text.getvalue().count("\x1b[1A") >= 2 * 10  # up again, over every job
    assert text.getvalue().endswith("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_ends_watching_well(
    ask: Run, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.status.time.sleep", interrupted)
    text = io.StringIO()
    monkeypatch.setattr(show, "console", lambda: Console(file=text, force_terminal=terminal))
    said = ask("--watch")
    assert (said.code, said.err) == (0, "")
    assert "waiting" in text.getvalue()


@pytest.mark.parametrize(
    ("states", "wanted", "over"),
    [
        (["done", "done"], None, True),
        (["done", "failed"], None, True),
        (["failed", "blocked"], None, True),
        (["done", "running"], None, False),
        (["done", "waiting"], None, False),
        (["done", "interrupted"], None, False),  # the same command may go on any time
        (["done", "waiting"], ["a"], True),  # `spp windows` asked for no more
        (["waiting", "done"], ["a"], False),
        (["done", "running"], ["a"], False),
    ],
)
def test_when_there_is_nothing_left_to_watch(
    states: list[str], wanted: list[str] | None, over: bool
) -> None:
    rows = [{"job": job, "state": state} for job, state in zip("ab", states, strict=True)]
    assert status._is_over(rows, wanted) is over
