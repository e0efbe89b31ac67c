"""How far jobs are, from files whose times are given; nobody is asked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors.progress import Progress
from actors.serial import SerialRunner
from jobs import dag, hold
from jobs.context import Context
from jobs.events import Events
from jobs.job import Job, Step
from jobs.observing import Observer
from pipeline.config import Recipe
from pipeline.errors import SppError

RECIPE = Recipe.model_validate({"name": "toy", "dataset": {"kind": "digits"}})
PLANNED = {"shards": 10, "images": 50, "rows": 700, "bytes": 11_000}
T = 1_800_000_000.0  # some time


def nothing(_: Context) -> dict[str, Any]:
    return {}


class Extraction:
    """The folder of a job `extract_train`, as a driver would leave it."""

    def __init__(self, runs: Path) -> None:
        self.steps = dag.plan([Job("extract_train", nothing)], RECIPE, runs)
        self.folder = self.steps["extract_train"].folder
        self.records = self.folder / "store" / "records"
        self.records.mkdir(parents=True)
        (self.folder / hold.LOCK).touch()
        self.plan(self.folder / "store")
        self.events = Events(self.folder / "events.jsonl")

    def plan(self, store: Path) -> None:
        planned = PLANNED | {"store": str(store)}
        (self.folder / "plan.json").write_text(json.dumps(planned))

    def commit(self, *times: float) -> None:
        for time_s in times:
            path = self.records / f"{len(list(self.records.iterdir())):05d}-ab.json"
            path.write_text("{}")
            os.utime(path, (time_s, time_s))

    def tell(self, count: int, first: int = 0, **more: Any) -> None:
        for index in range(first, first + count):
            amounts = {"rows": 60, "images": 5, "bytes": 1000}
            name = f"{index:05d}-ab"
            self.events.write("shard_committed", shard_id=name, **amounts, **more)

    def row(self, now: float = T) -> dict[str, Any]:
        (row,) = Observer(self.steps).rows(now)
        return row

    def progress(self, now: float = T) -> dict[str, Any]:
        return self.row(now)["progress"]


@pytest.fixture
def extraction(tmp_path: Path) -> Extraction:
    return Extraction(tmp_path)


@pytest.fixture
def held(extraction: Extraction) -> Iterator[None]:
    """Another process holds the job's folder."""
    code = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
    code += "print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(extraction.folder / hold.LOCK)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate(timeout=10)


@pytest.mark.usefixtures("held")
def test_a_run_at_work_is_as_fast_as_its_records_say(extraction: Extraction) -> None:
    extraction.commit(T - 100, T - 80, T - 60, T - 40)
    extraction.tell(4)
    row = extraction.row()
    assert row["state"] == "running"
    rate = 3 / 100
    assert row["progress"] == {
        "of": "shards",
        "done": 4,
        "total": 10,
        "rows": 240,
        "images": 20,
        "bytes": 4000,
        "exact": True,
        "per_second": rate,
        "rows_per_second": pytest.approx(rate * 60),
        "left_s": 6 / rate,
        "last": "2027-01-15T07:59:20.000Z",  # T is 08:00
    }


def test_a_dead_run_is_told_as_it_was_when_it_died(extraction: Extraction) -> None:
    extraction.commit(T - 9060, T - 9040, T - 9020, T - 9000)
    row = extraction.row()
    assert row["state"] == "interrupted"
    assert row["progress"]["per_second"] == 3 / 60
    assert row["progress"]["left_s"] == 6 * 20


@pytest.mark.usefixtures("held")
def test_of_a_run_that_goes_on_only_what_came_since_counts(extraction: Extraction) -> None:
    extraction.commit(T - 9060, T - 9040, T - 9020, T - 9000)
    assert extraction.progress()["per_second"] is None
    assert extraction.progress()["left_s"] is None
    extraction.commit(T - 30, T - 10)
    assert extraction.progress()["per_second"] == 1 / 30


@pytest.mark.parametrize(("commits", "rate"), [(0, None), (1, None), (2, 1 / 10)])
def test_few_records(extraction: Extraction, commits: int, rate: float | None) -> None:
    extraction.commit(*(T + 10 * k for k in range(commits)))
    told = extraction.progress(T - 1000)  # this machine's clock is behind the disk's
    assert (told["done"], told["per_second"]) == (commits, rate)
    assert (told["left_s"] is None) == (rate is None)


def test_more_committed_than_planned(extraction: Extraction) -> None:
    extraction.commit(*(T - k for k in range(12)))
    told = extraction.progress()
    assert (told["done"], told["total"], told["left_s"]) == (12, 10, 0)


def test_amounts_are_exact_where_the_log_has_each_shard_and_else_about(
    extraction: Extraction,
) -> None:
    names = ("images", "rows", "bytes", "exact")
    extraction.commit(*(T - k for k in range(6)))
    told = extraction.progress()
    assert [told[name] for name in names] == [30, 420, 6600, False]  # 6 of 10, as planned
    extraction.tell(4)
    told = extraction.progress()
    assert [told[name] for name in names] == [30, 360, 6000, False]  # as the four
    extraction.tell(2, first=4)
    extraction.tell(3)  # once more
    told = extraction.progress()
    assert [told[name] for name in names] == [30, 360, 6000, True]


def test_the_store_may_lie_elsewhere(extraction: Extraction, tmp_path: Path) -> None:
    extraction.commit(T - 1, T - 2)
    (extraction.folder / "store").rename(tmp_path / "elsewhere")
    extraction.plan(tmp_path / "elsewhere")
    assert extraction.progress()["done"] == 2


def test_seconds_by_stage_are_those_of_all_runs(extraction: Extraction) -> None:
    extraction.tell(2, seconds={"network": 6.0, "decode": 2.0}, waits={"decode": 0.5}, total_s=8.0)
    extraction.events.write("job_started", job="extract_train", host="here", pid=7)
    extraction.tell(1, seconds={"network": 3.0}, total_s=4.0)
    extraction.events.write("shard_committed", shard_id="x", rows=None, seconds=3)  # not of ours
    observer = Observer(extraction.steps)
    observer.rows(T)
    (row,) = observer.rows(T)  # what was read is not added again
    expected = {
        "windows_reused": 0,
        "bound_by": "network (75% of 20 s)",  # 15 of 20
        "worker_seconds": {"network": 15.0, "decode": 4.0},
        "waited_seconds": {"decode": 1.0},
    }
    assert {name: row["stages"][name] for name in expected} == expected
    assert row["begun_by"] == {"host": "here", "pid": 7}


@pytest.mark.usefixtures("held")
def test_workers_are_those_of_this_try(extraction: Extraction) -> None:
    events = extraction.events
    events.write("actor_died", worker="a", up=7)
    events.write("job_started", job="extract_train")
    assert extraction.row()["workers"] == {}
    events.write("waiting_for_room", waiting=2, up=0, asked="1 GPU each", cluster="0 GPUs")
    why = {"waiting": 2, "up": 0, "asked": "1 GPU each", "cluster": "0 GPUs"}
    assert extraction.row()["workers"] == {"waiting_for_room": why}
    events.write("actor_started", worker="b", up=1)
    events.write("actor_started", worker="c", up=2)
    events.write("actor_died", worker="b", up=1, reason="gone")
    assert extraction.row()["workers"] == {"up": 1, "died": 1}


def test_shards_given_up_are_those_of_the_last_try(extraction: Extraction) -> None:
    events = extraction.events
    events.write("shard_failed", shard_id="a", error="old")
    events.write("job_started", job="extract_train")
    events.write("shard_failed", shard_id="b", error="one")
    events.write("shard_failed", shard_id="c", error="two")
    extraction.events.write("shard_committed", shard_id="c")
    assert extraction.row()["shards_failed"] == {"b": "one"}


@pytest.mark.usefixtures("held")
def test_a_running_job_has_run_since_its_last_start(extraction: Extraction) -> None:
    line = '{"time": "2027-01-15T08:00:%02dZ", "kind": "job_started"}\n'  # T is :00
    extraction.events.path.write_text(line % 3 + line % 17)
    assert extraction.row(T + 30)["seconds"] == 13
    assert extraction.row(T)["seconds"] == 0  # a clock that was set back


def test_looking_again_reads_only_what_is_new(extraction: Extraction) -> None:
    extraction.tell(100)
    extraction.commit(*(T - k for k in range(101)))
    observer = Observer(extraction.steps)
    observer.rows(T)
    log = extraction.events.path
    log.write_bytes(b" " * (log.stat().st_size - 1) + b"\n")  # who reads it again finds nothing
    extraction.tell(1, first=100)
    (row,) = observer.rows(T)
    assert row["progress"]["rows"] == 101 * 60


@dataclass(frozen=True)
class Answer:
    """The result of an item."""

    number: int


def squares(context: Context) -> dict[str, Any]:
    def square(number: int) -> Any:
        if number == 3:
            raise SppError("not 3")
        return Answer(number**2)

    context.map("squares", square, {str(k): k for k in (5, 3, 2)}, Answer)
    return {}


def run(jobs: list[Job], runs: Path) -> dict[str, Step]:
    planned = dag.plan(jobs, RECIPE, runs)
    names = [job.name for job in jobs]
    dag.execute(planned, names, RECIPE, SerialRunner(), Progress(quiet=True))
    return planned


def test_tasks_are_counted_by_their_results(tmp_path: Path) -> None:
    (row,) = Observer(run([Job("a", squares)], tmp_path)).rows()
    told = row["progress"]
    assert (told["of"], told["done"], told["total"]) == ("squares", 2, 3)
    assert "rows" not in told


def test_of_many_steps_of_tasks_the_last_one_counts(tmp_path: Path) -> None:
    def work(context: Context) -> dict[str, Any]:
        for label, count in (("first", 4), ("second", 3)):
            context.map(label, Answer, {str(k): k for k in range(count)}, Answer)
        raise SppError("now")

    (row,) = Observer(run([Job("a", work)], tmp_path)).rows()
    assert (row["progress"]["of"], row["progress"]["total"]) == ("second", 3)
