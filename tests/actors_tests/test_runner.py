"""Both runners give the same answers, whatever the items do, and leave nothing behind."""

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from actors.runner import TASKS_PER_CPU, RayRunner, Runner, Stopped
from actors.serial import SerialRunner
from pipeline.errors import InputError

# Workers cannot import test files by name.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("ray_cluster")

RUNNERS = [SerialRunner, RayRunner]
CPUS = 2


def reciprocal(number: int) -> float:
    if number == 7:
        raise InputError("image 7 is not what it must be: take it out")
    return 1 / number


def die_once(mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return 11


def fail_twice(marks: Path) -> int:
    tries = len(list(marks.glob("*")))
    (marks / str(tries)).touch()
    if tries < 2:
        raise OSError(errno.ENOSPC, "No space left on device")
    return 13


def work_for_long(mark: Path) -> None:
    mark.write_text(str(os.getpid()))
    time.sleep(60)


class Watched(Mapping[str, Any]):
    """Items that count how often one was taken."""

    def __init__(self, items: dict[str, Any]) -> None:
        self._items, self.taken = items, 0

    def __getitem__(self, key: str) -> Any:
        self.taken += 1
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def answers(runner: Runner, items: dict[str, int]) -> dict[str, tuple[Any, type, str]]:
    outcomes = runner.map(reciprocal, items)
    return {each.key: (each.result, type(each.error), str(each.error)) for each in outcomes}


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_item_is_answered_with_its_result_or_with_why_there_is_none(
    runner: type[Runner],
) -> None:
    # The error of our own and the plain fault are answered alike, and the others go on.
    items = {"two": 2, "seven": 7, "nothing": 0, "four": 4}
    assert answers(runner(), items) == {
        "two": (0.5, type(None), "None"),
        "seven": (None, InputError, "image 7 is not what it must be: take it out"),
        "nothing": (None, ZeroDivisionError, "division by zero"),
        "four": (0.25, type(None), "None"),
    }


@pytest.mark.parametrize("runner", RUNNERS)
def test_no_items_no_answers(runner: type[Runner]) -> None:
    assert list(runner().map(reciprocal, {})) == []


def test_a_fault_on_a_worker_keeps_the_workers_traceback() -> None:
    (outcome,) = RayRunner().map(reciprocal, {"nothing": 0})
    assert outcome.error is not None
    assert "return 1 / number" in str(outcome.error.__cause__)


def test_work_in_flight_is_bounded() -> None:
    items = Watched({str(number): number for number in range(10, 30)})
    for done, _ in enumerate(RayRunner().map(reciprocal, items)):
        assert items.taken <= done + TASKS_PER_CPU * CPUS
    assert items.taken == len(items)


def test_a_task_whose_worker_died_is_tried_again(tmp_path: Path) -> None:
    (outcome,) = RayRunner().map(die_once, {"only": tmp_path / "mark"})
    assert (outcome.result, outcome.error) == (11, None)


def test_a_task_that_its_machine_failed_is_tried_again(tmp_path: Path) -> None:
    (outcome,) = RayRunner().map(fail_twice, {"a": tmp_path})
    assert (outcome.result, outcome.error) == (13, None)


def test_more_cpus_than_the_cluster_has_are_not_waited_for() -> None:
    (outcome,) = RayRunner().map(reciprocal, {"two": 2}, cpus=64)
    assert outcome.result == 0.5


def test_a_stop_ends_the_run_and_what_it_had_in_work(tmp_path: Path) -> None:
    runner, mark = RayRunner(), tmp_path / "pid"
    outcomes = runner.map(work_for_long, {"long": mark})
    ended: list[type[BaseException]] = []

    def consume() -> None:
        try:
            next(outcomes)
        except Stopped as error:
            ended.append(type(error))

    thread = threading.Thread(target=consume)
    thread.start()
    wait_until(lambda: mark.exists() and mark.read_text() != "")
    runner.stop.set()
    thread.join(timeout=10)
    assert ended == [Stopped]
    wait_until(lambda: not Path(f"/proc/{mark.read_text()}").exists())


def test_a_stopped_serial_run_does_not_begin_the_next_item() -> None:
    runner = SerialRunner()
    outcomes = runner.map(reciprocal, {"two": 2, "four": 4})
    assert next(outcomes).result == 0.5
    runner.stop.set()
    with pytest.raises(Stopped):
        next(outcomes)


def wait_until(holds: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
