"""The output of done jobs, and what happens where it is lost."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.progress import Progress
from actors.serial import SerialRunner
from jobs import dag, execution, outputs
from jobs.context import Context
from jobs.job import Job, State, Step
from pipeline.config import Recipe

RECIPE = Recipe.model_validate({"name": "toy", "dataset": {"kind": "digits"}})


def write(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


def test_files_are_all_that_the_job_made_itself(tmp_path: Path) -> None:
    for name in ("a.txt", "deep/er/b.txt", "done.json", "error.json", "lock"):
        write(tmp_path, name, name)
    write(tmp_path, "tasks/step/0.json", "{}")
    write(tmp_path, "store/shards/0.parquet", "rows")
    assert outputs.files_of(tmp_path) == {"a.txt": 5, "deep/er/b.txt": 13}


def test_damage_names_the_file_and_both_sizes(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "12345")
    record = {"files": {"a.txt": 5}}
    assert outputs.damage(tmp_path, record) is None
    assert outputs.damage(tmp_path, {}) is None  # of a version that wrote down none
    os.truncate(tmp_path / "a.txt", 4)
    problem = f"{tmp_path / 'a.txt'} has 4 bytes, and was made with 5"
    assert outputs.damage(tmp_path, record) == problem
    (tmp_path / "a.txt").unlink()
    assert outputs.damage(tmp_path, record) == f"{tmp_path / 'a.txt'} is missing"


@pytest.fixture
def began() -> list[str]:
    return []


@pytest.fixture
def steps(tmp_path: Path, began: list[str]) -> dict[str, Step]:
    """`first`, whose two files are written by tasks, and `second`, which needs it."""

    def first(context: Context) -> dict[str, Any]:
        began.append("first")
        (context.folder / "tasks").mkdir(exist_ok=True)
        for name in "ab":
            if not (context.folder / "tasks" / name).exists():
                write(context.folder, f"{name}.txt", name * 3)
                write(context.folder, f"tasks/{name}", "done")
        return {"state": "whole"}

    def second(context: Context) -> dict[str, Any]:
        began.append("second")
        return {"read": (context.inputs["first"] / "a.txt").read_text()}

    def sound(folder: Path, summary: dict[str, Any]) -> str | None:
        return f"it is {summary['state']} no more" if (folder / "broken").exists() else None

    jobs = [Job("first", first, sound=sound), Job("second", second, ("first",))]
    return dag.plan(jobs, RECIPE, tmp_path)


@pytest.fixture
def run(steps: dict[str, Step], capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def again() -> str:
        progress = Progress()
        execution.recheck(steps, ["second"], progress)
        dag.execute(steps, ["second"], RECIPE, SerialRunner(), progress)
        return capsys.readouterr().err

    return again


def test_a_job_whose_output_is_there_is_done(run: Callable[[], str], began: list[str]) -> None:
    run()
    assert "again" not in run()
    assert began == ["first", "second"]


@pytest.mark.parametrize("lost", ["a.txt", "b.txt"])
def test_lost_output_is_made_again_and_what_was_made_of_it_stays(
    steps: dict[str, Step], run: Callable[[], str], began: list[str], lost: str
) -> None:
    run()
    (steps["first"].folder / lost).unlink()
    assert f"first: {steps['first'].folder / lost} is missing. What is missing is made" in run()
    assert began == ["first", "second", "first"]
    assert (steps["first"].folder / lost).read_text() == lost[0] * 3
    assert [step.state for step in steps.values()] == [State.done] * 2
    assert "again" not in run()


def test_a_job_may_say_itself_what_is_wrong(
    steps: dict[str, Step], run: Callable[[], str], began: list[str]
) -> None:
    run()
    (steps["first"].folder / "broken").touch()
    assert "first: it is whole no more. What is missing is made again" in run()
    assert began == ["first", "second", "first"]


def test_nothing_is_said_of_jobs_that_nobody_asked_for(
    steps: dict[str, Step], run: Callable[[], str]
) -> None:
    run()
    (steps["second"].folder / "done.json").write_text('{"files": {"gone": 1}, "summary": {}}')
    execution.recheck(steps, ["first"], Progress())
    assert steps["second"].state is State.done
