"""Toy jobs that write down what they did: order, resume, failure, folders."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.progress import Progress
from actors.runner import Stopped
from actors.serial import SerialRunner
from jobs import dag, hold, show
from jobs.context import Context
from jobs.dag import Report
from jobs.job import Job, State
from pipeline.config import Recipe
from pipeline.errors import InputError, SppError
from pipeline.store.files import read_json

RECIPE = Recipe.model_validate({"name": "toy", "dataset": {"kind": "digits"}})


@dataclass
class Diary:
    """Which jobs began, in order."""

    began: list[str]

    def job(
        self, name: str, *needs: str, does: Callable[[Context], Any] = lambda _: None, **kept: Any
    ) -> Job:
        def run(context: Context) -> dict[str, Any]:
            self.began.append(name)
            does(context)
            return {"name": name}

        return Job(name, run, needs, **kept)


@pytest.fixture
def diary() -> Diary:
    return Diary([])


def run(
    jobs: Sequence[Job],
    runs: Path,
    *targets: str,
    recipe: Recipe = RECIPE,
    runner: SerialRunner | None = None,
) -> Report:
    planned = dag.plan(jobs, recipe, runs)
    wanted = targets or [job.name for job in jobs]
    quiet = Progress(quiet=True)
    return dag.execute(planned, wanted, recipe, runner or SerialRunner(), quiet)


def fail(error: Exception, context: Context) -> None:
    raise error


def test_jobs_run_after_those_they_need(diary: Diary, tmp_path: Path) -> None:
    jobs = [diary.job("a"), diary.job("b", "a"), diary.job("c", "b"), diary.job("d", "a", "c")]
    assert run(jobs, tmp_path).ran == ["a", "b", "c", "d"]
    assert diary.began == ["a", "b", "c", "d"]


def test_a_target_takes_along_what_it_needs_and_no_more(diary: Diary, tmp_path: Path) -> None:
    jobs = [diary.job("a"), diary.job("b"), diary.job("c", "b"), diary.job("d", "c")]
    assert run(jobs, tmp_path, "c").ran == ["b", "c"]


def test_independent_jobs_run_at_the_same_time(diary: Diary, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=10)  # breaks unless all three are there at once
    meet = lambda _: together.wait()  # noqa: E731
    jobs = [diary.job("a"), *(diary.job(name, "a", does=meet) for name in ("b", "c", "d"))]
    assert sorted(run(jobs, tmp_path).ran) == ["a", "b", "c", "d"]


def test_a_job_reads_the_folders_and_summaries_of_those_it_needs(tmp_path: Path) -> None:
    def write(context: Context) -> dict[str, Any]:
        (context.folder / "number").write_text("17")
        return {"answer": 19}

    def read(context: Context) -> dict[str, Any]:
        number = int((context.inputs["a"] / "number").read_text())
        return {"product": number * context.summary_of("a")["answer"]}

    jobs = [Job("a", write), Job("b", read, ("a",))]
    run(jobs, tmp_path)
    record = dag.plan(jobs, RECIPE, tmp_path)["b"].record
    assert record is not None
    assert record["summary"] == {"product": 17 * 19}


def test_what_is_done_is_not_done_again(diary: Diary, tmp_path: Path) -> None:
    jobs = [diary.job("a"), diary.job("b", "a")]
    run(jobs, tmp_path)
    assert run(jobs, tmp_path).ran == []
    assert diary.began == ["a", "b"]


@pytest.mark.parametrize("content", ["", '{"job": "b", "summ'])
def test_a_record_cut_short_is_no_record(diary: Diary, tmp_path: Path, content: str) -> None:
    jobs = [diary.job("a"), diary.job("b", "a")]
    run(jobs, tmp_path)
    (dag.plan(jobs, RECIPE, tmp_path)["b"].folder / "done.json").write_text(content)
    assert run(jobs, tmp_path).ran == ["b"]


def test_a_failure_is_recorded_and_what_needs_it_is_named_while_the_rest_goes_on(
    diary: Diary, tmp_path: Path
) -> None:
    broken = partial(fail, InputError("image 5 is broken: mend it"))
    jobs = [
        diary.job("a", does=broken),
        diary.job("b", "a"),
        diary.job("c", "b"),
        diary.job("d"),
        diary.job("e", "d"),
    ]
    report = run(jobs, tmp_path)
    assert {name: str(error) for name, error in report.failed.items()} == {
        "a": "image 5 is broken: mend it"
    }
    assert report.blocked == ["b", "c"]
    assert report.ran == ["d", "e"]
    planned = dag.plan(jobs, RECIPE, tmp_path)
    left = read_json(planned["a"].folder / "error.json")
    assert (left["error"], left["known"]) == ("image 5 is broken: mend it", True)
    assert "in fail\n    raise error" in left["traceback"]
    assert [step.state for step in planned.values()] == [
        State.failed, State.waiting, State.waiting, State.done, State.done,
    ]  # fmt: skip


def test_a_fault_of_our_own_is_known_as_one(diary: Diary, tmp_path: Path) -> None:
    jobs = [diary.job("a", does=partial(fail, ZeroDivisionError("1 by 0")))]
    assert list(run(jobs, tmp_path).failed) == ["a"]
    assert not read_json(dag.plan(jobs, RECIPE, tmp_path)["a"].folder / "error.json")["known"]


def test_after_a_failure_only_what_is_missing_runs(diary: Diary, tmp_path: Path) -> None:
    cause = tmp_path / "cause"
    cause.touch()

    def fails_at_first(context: Context) -> None:
        if cause.exists():
            raise SppError("not yet")

    jobs = [diary.job("a"), diary.job("b", "a", does=fails_at_first), diary.job("c", "b")]
    assert run(jobs, tmp_path / "runs").ran == ["a"]
    cause.unlink()
    assert run(jobs, tmp_path / "runs").ran == ["b", "c"]
    folder = dag.plan(jobs, RECIPE, tmp_path / "runs")["b"].folder
    assert not (folder / "error.json").exists()


def seed_of(recipe: Recipe) -> int:
    return recipe.seed


def test_a_changed_part_of_the_recipe_moves_what_reads_it_and_what_needs_that(
    diary: Diary, tmp_path: Path
) -> None:
    jobs = [
        diary.job("a"),
        diary.job("b", "a", reads=seed_of),
        diary.job("c", "b"),
        diary.job("d", "a", reads=lambda recipe: recipe.name),
    ]
    run(jobs, tmp_path)
    other = RECIPE.model_copy(update={"seed": 3})
    assert run(jobs, tmp_path, recipe=other).ran == ["b", "c"]
    was, now = (dag.plan(jobs, each, tmp_path) for each in (RECIPE, other))
    assert {name for name in was if was[name].folder == now[name].folder} == {"a", "d"}
    # The first recipe's results are still there.
    assert run(jobs, tmp_path).ran == []


def test_two_jobs_that_read_the_same_do_not_share_a_folder(diary: Diary, tmp_path: Path) -> None:
    planned = dag.plan([diary.job("a"), diary.job("b")], RECIPE, tmp_path)
    assert planned["a"].folder != planned["b"].folder


def test_what_a_killed_run_left_aside_is_removed(diary: Diary, tmp_path: Path) -> None:
    jobs = [diary.job("a")]
    folder = dag.plan(jobs, RECIPE, tmp_path)["a"].folder
    names = ("0.json.tmp.0a1b", "made/0.parquet.tmp.0a1b", "made/1.parquet", "store/0.tmp.0a1b")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    run(jobs, tmp_path)
    # A store is looked after by its own job.
    assert [(folder / name).exists() for name in names] == [False, False, True, True]


def test_a_second_run_waits_for_the_first_and_takes_its_result(
    diary: Diary, tmp_path: Path
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait(context: Context) -> None:
        began.set()
        assert go_on.wait(timeout=10)

    jobs = [diary.job("a", does=wait), diary.job("b", "a")]
    reports: list[Report] = []
    first = threading.Thread(target=lambda: reports.append(run(jobs, tmp_path)))
    second = threading.Thread(target=lambda: reports.append(run(jobs, tmp_path)))
    first.start()
    assert began.wait(timeout=10)
    second.start()
    time.sleep(0.3)  # long enough to do it again, were it not kept from it
    go_on.set()
    for thread in (first, second):
        thread.join(timeout=10)
    assert [report.ran for report in reports] == [["a", "b"], ["a", "b"]]
    assert diary.began == ["a", "b"]


def test_the_hold_on_a_folder_goes_with_its_process(diary: Diary, tmp_path: Path) -> None:
    jobs = [diary.job("a")]
    folder = dag.plan(jobs, RECIPE, tmp_path)["a"].folder
    folder.mkdir(parents=True)
    code = "import fcntl, os, sys; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX); os.abort()"
    subprocess.run([sys.executable, "-c", code, str(folder / hold.LOCK)], check=False)
    assert run(jobs, tmp_path).ran == ["a"]


def test_a_stop_is_not_a_failure_and_starts_nothing_more(diary: Diary, tmp_path: Path) -> None:
    runner = SerialRunner()

    def work(context: Context) -> None:
        runner.stop.set()
        list(runner.map(abs, {"one": 1}))

    jobs = [diary.job("a", does=work), diary.job("b", "a")]
    with pytest.raises(Stopped):
        run(jobs, tmp_path, runner=runner)
    assert diary.began == ["a"]
    planned = dag.plan(jobs, RECIPE, tmp_path)
    assert [step.state for step in planned.values()] == [State.interrupted, State.waiting]


def test_headline_shows_numbers_and_words_on_one_line() -> None:
    summary = {
        "mAP": 0.81234,
        "rows": 1234567,
        "objective": 1234.5,
        "ap": {"zero": 1.0},
        "x_y": "z",
    }
    assert show.headline(summary) == "mAP 0.812, rows 1,234,567, objective 1,234, x y z"


def test_a_second_interrupt_leaves_wherever_it_comes(
    diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    in_hand = diary.job("a", does=lambda _: ended.wait(10))

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dag, "wait", interrupt)
    monkeypatch.setattr(Progress, "note", interrupt)  # while it says that it stops
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run([in_hand], tmp_path)
    assert time.monotonic() - began < 5
    ended.set()


def test_a_failure_that_cannot_be_written_down_stops_nothing_else(
    diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Context) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = dag.write_json

    def written(path: Path, content: Any) -> None:
        if path.name == dag.ERROR:
            full(content)
        write(path, content)

    monkeypatch.setattr(dag, "write_json", written)
    jobs = [diary.job("a", does=full), diary.job("b"), diary.job("c", "b")]
    report = run(jobs, tmp_path)
    assert list(report.failed) == ["a"]
    assert report.ran == ["b", "c"]
