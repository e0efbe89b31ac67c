"""Which jobs run, wait, were interrupted or failed, and what their logs say of it."""

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.progress import Progress
from actors.runner import Stopped
from actors.serial import SerialRunner
from jobs import dag, hold
from jobs.context import Context
from jobs.job import Job, Step
from jobs.observing import Observer
from pipeline.config import Recipe
from pipeline.errors import SppError

RECIPE = Recipe.model_validate({"name": "toy", "dataset": {"kind": "digits"}})


def nothing(_: Context) -> dict[str, Any]:
    return {}


def fail(_: Context) -> dict[str, Any]:
    raise SppError("image 5 is broken: mend it")


def run(jobs: list[Job], runs: Path) -> dict[str, Step]:
    planned = dag.plan(jobs, RECIPE, runs)
    names = [job.name for job in jobs]
    dag.execute(planned, names, RECIPE, SerialRunner(), Progress(quiet=True))
    return planned


def test_states(tmp_path: Path) -> None:
    jobs = [
        Job("a", nothing),
        Job("b", fail, ("a",)),
        Job("c", nothing, ("b",)),
        Job("d", nothing, ("c",)),
        Job("e", nothing, ("a",)),
        Job("f", nothing, ("e",)),
    ]
    planned = run(jobs[:4], tmp_path) | dag.plan(jobs, RECIPE, tmp_path)
    planned["e"].folder.mkdir()
    (planned["e"].folder / hold.LOCK).touch()
    rows = Observer(planned).rows()
    assert {row["job"]: row["state"] for row in rows} == {
        "a": "done",
        "b": "failed",
        "c": "blocked",
        "d": "blocked",
        "e": "interrupted",
        "f": "waiting",
    }
    assert [row["error"] for row in rows[:3]] == [None, "image 5 is broken: mend it", None]


def test_a_failed_job_that_is_tried_again_is_running(tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()

    def work(_: Context) -> dict[str, Any]:
        began.set()
        assert go_on.wait(timeout=10)
        return {}

    job = Job("a", work)
    (folder,) = (step.folder for step in dag.plan([job], RECIPE, tmp_path).values())
    folder.mkdir(parents=True)
    (folder / dag.ERROR).write_text('{"error": "old"}')
    thread = threading.Thread(target=run, args=([job], tmp_path))
    thread.start()
    assert began.wait(timeout=10)
    (row,) = Observer(dag.plan([job], RECIPE, tmp_path)).rows()
    go_on.set()
    thread.join(timeout=10)
    assert (row["state"], row["error"], row["result"]) == ("running", None, "")
    assert row["begun_by"]["pid"] == os.getpid()


def test_looking_does_not_disturb_who_holds_the_folder(tmp_path: Path) -> None:
    noted: list[str] = []
    stop, folder = threading.Event(), tmp_path
    with (folder / hold.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as one who looks
        threading.Timer(0.2, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with hold.sole_use(folder, stop, noted.append):
            assert hold.is_held(folder)
    assert noted == []


def test_where_there_are_no_locks_a_run_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    noted: list[str] = []
    with hold.sole_use(tmp_path, threading.Event(), noted.append):
        assert not hold.is_held(tmp_path)
    assert noted == [hold.UNLOCKED]


def test_another_trouble_with_a_lock_is_no_lack_of_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, kind: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output"), hold.sole_use(tmp_path, threading.Event()):
        pass


def test_a_log_that_cannot_be_written_fails_no_job(tmp_path: Path) -> None:
    planned = dag.plan([Job("a", nothing)], RECIPE, tmp_path)
    folder = planned["a"].folder
    folder.mkdir(parents=True)
    (folder / "events.jsonl").symlink_to("/dev/full")
    assert dag.execute(planned, ["a"], RECIPE, SerialRunner(), Progress(quiet=True)).ran == ["a"]


def kinds(folder: Path) -> list[str]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines]


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        (nothing, ["job_started", "job_finished"]),
        (fail, ["job_started", "job_failed"]),
    ],
)
def test_a_jobs_log_tells_its_beginning_and_its_end(
    tmp_path: Path, does: Callable[[Context], dict[str, Any]], expected: list[str]
) -> None:
    planned = run([Job("a", does)], tmp_path)
    assert kinds(planned["a"].folder) == expected
    (first, last) = map(json.loads, (planned["a"].folder / "events.jsonl").read_text().splitlines())
    assert (first["recipe"], first["pid"]) == ("toy", os.getpid())
    assert last.get("error") in (None, "image 5 is broken: mend it")


def test_an_interrupted_job_says_so_in_its_log(tmp_path: Path) -> None:
    def stopped(_: Context) -> dict[str, Any]:
        raise Stopped

    with pytest.raises(Stopped):
        run([Job("a", stopped)], tmp_path)
    planned = dag.plan([Job("a", stopped)], RECIPE, tmp_path)
    assert kinds(planned["a"].folder) == ["job_started", "run_interrupted"]
