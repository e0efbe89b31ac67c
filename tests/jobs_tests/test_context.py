"""What a job does with many items: each computed once, and failures gathered into one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.progress import Progress
from actors.serial import SerialRunner
from jobs import dag
from jobs.context import Context, raise_failures
from jobs.dag import Report
from jobs.job import Job
from pipeline.config import Recipe
from pipeline.errors import InputError, RecipeError

RECIPE = Recipe.model_validate({"name": "toy", "dataset": {"kind": "digits"}})


def run(job: Job, runs: Path) -> Report:
    planned = dag.plan([job], RECIPE, runs)
    return dag.execute(planned, [job.name], RECIPE, SerialRunner(), Progress(quiet=True))


@dataclass(frozen=True)
class Square:
    """The result of an item."""

    number: int
    square: float


def test_each_item_is_computed_once_whatever_fails_in_between(tmp_path: Path) -> None:
    calls: list[int] = []
    cause = tmp_path / "cause"
    cause.touch()

    def square(number: int) -> Square:
        calls.append(number)
        if number == 3 and cause.exists():
            raise InputError("3 is not there: fetch it")
        return Square(number, number**2)

    answers: list[dict[str, Square]] = []

    def work(context: Context) -> dict[str, Any]:
        answers.append(context.map("squares", square, {str(k): k for k in (5, 3, 2)}, Square))
        return {}

    job = Job("a", work)
    report = run(job, tmp_path / "runs")
    assert str(report.failed["a"]) == "squares 3: 3 is not there: fetch it"
    assert isinstance(report.failed["a"], InputError)
    assert calls == [5, 3, 2]
    cause.unlink()
    assert run(job, tmp_path / "runs").ran == ["a"]
    assert calls == [5, 3, 2, 3]
    expected = {"5": Square(5, 25), "3": Square(3, 9), "2": Square(2, 4)}
    assert answers == [expected]
    assert list(answers[0]) == ["5", "3", "2"]


def test_in_turn_each_waits_for_the_last_and_none_is_done_twice(tmp_path: Path) -> None:
    calls: list[int] = []
    cause = tmp_path / "cause"
    cause.touch()

    def square(number: int) -> Square:
        calls.append(number)
        if number == 3 and cause.exists():
            raise InputError("3 is not there: fetch it")
        return Square(number, number**2)

    seen: list[str] = []

    def work(context: Context) -> dict[str, Any]:
        items = {str(k): k for k in (5, 3, 2)}
        for key, result in context.in_turn("squares", square, items, Square):
            assert result == Square(items[key], items[key] ** 2)
            if key not in seen:  # the next one is not begun yet
                assert calls[-1] == items[key]
            seen.append(key)
        return {}

    job = Job("a", work)
    report = run(job, tmp_path / "runs")
    assert str(report.failed["a"]) == "squares 3: 3 is not there: fetch it"
    assert (calls, seen) == ([5, 3], ["5"])
    cause.unlink()
    assert run(job, tmp_path / "runs").ran == ["a"]
    assert calls == [5, 3, 3, 2]
    assert seen == ["5", "5", "3", "2"]


def test_steps_are_told_as_they_are_done_and_the_whole_is_done_once(tmp_path: Path) -> None:
    calls: list[bool] = []
    seen: list[str] = []
    cause = tmp_path / "cause"
    cause.touch()

    def square(told: Path) -> Square:
        calls.append(any(told.iterdir()))  # what another driver's has told is gone
        for step in range(3):
            (told / f"{step}.json").touch()
            if cause.exists():
                raise InputError("3 is not there: fetch it")
        return Square(3, 9)

    class Heard(Progress):
        @contextmanager
        def bar(self, title: str, total: int, done: int = 0) -> Iterator[Any]:
            seen.append(f"{title} {done} of {total}")
            yield SimpleNamespace(advance=lambda: seen.append("one"))

    def work(context: Context) -> dict[str, Any]:
        heard = replace(context, progress=Heard(quiet=True))
        return asdict(heard.in_steps("steps", square, 3, Square))

    job = Job("a", work)
    report = run(job, tmp_path / "runs")
    assert str(report.failed["a"]) == "running steps: 3 is not there: fetch it"
    cause.unlink()
    seen.clear()
    assert run(job, tmp_path / "runs").ran == ["a"]
    assert calls == [False, False]
    assert seen == ["a: steps 0 of 3", "one", "one", "one"]
    (folder,) = (tmp_path / "runs" / "jobs").iterdir()
    (folder / "done.json").unlink()
    assert run(job, tmp_path / "runs").ran == ["a"]
    assert len(calls) == 2


def test_many_failures_are_counted_and_the_first_speaks() -> None:
    failed = {str(k): RecipeError(f"reason {k}") for k in range(7)}
    with pytest.raises(RecipeError) as caught:
        raise_failures(failed, "shards")
    assert str(caught.value) == "shards: 7 failed (0, 1, 2, 3, 4, …); the first said: reason 0"


def test_a_fault_without_a_message_is_named_by_its_kind() -> None:
    with pytest.raises(RuntimeError, match=r"^shards x: AssertionError: $") as caught:
        raise_failures({"x": AssertionError()}, "shards")
    assert isinstance(caught.value.__cause__, AssertionError)


def test_no_failures_raise_nothing() -> None:
    raise_failures({}, "shards")


@pytest.mark.parametrize(
    ("errors", "blames"),
    [
        ([RecipeError("x")], True),
        ([RecipeError("x"), RecipeError("y")], True),
        ([RecipeError("x"), InputError("y")], False),
        ([KeyError("x")], False),
        ([], False),
    ],
)
def test_who_is_to_blame(errors: list[Exception], blames: bool) -> None:
    assert Report(failed={str(k): error for k, error in enumerate(errors)}).blames_recipe is blames
