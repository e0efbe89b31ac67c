"""Processes that train together: connected, begun again, refused in words, and ended."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from actors import together
from actors.resources import Resources
from actors.runner import RayRunner, Stopped
from actors.serial import SerialRunner
from actors.together import train_together
from pipeline.errors import InputError, RecipeError, SppError
from tests.actors_tests import in_step

pytestmark = pytest.mark.usefixtures("ray_cluster")


def told_of(folder: Path) -> list[dict[str, int]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


EXPECTED = [{"step": step, "total": 21, "workers": 2} for step in range(in_step.STEPS)]


NAMES = [f"{step}.json" for step in range(in_step.STEPS)]


def run(work, told: Path, workers: int = 2, retries: int = 2) -> list[str]:
    notes: list[str] = []
    for _ in train_together(work, told, workers, Resources(retries=retries), notes.append):
        pass
    return notes


def comes_true(check: Callable[[], bool], patience_s: float = 20) -> bool:
    end = time.monotonic() + patience_s
    while not (true := check()) and time.monotonic() < end:
        time.sleep(0.2)
    return true


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_cpus_come_back() -> bool:
    return comes_true(lambda: ray.available_resources().get("CPU", 0) == 2)


def test_one_that_dies_is_replaced_and_what_was_done_stays(tmp_path: Path) -> None:
    notes = run(in_step.dies_once, tmp_path)
    # On a busy machine the dead one's place is slow to be given back, and that is told, too.
    (note,) = (each for each in notes if "wait for room" not in each)
    assert note.startswith("training failed (")
    assert note.endswith("all 2 processes begin again from what is done (1 of 2)")
    assert told_of(tmp_path) == EXPECTED
    assert sorted(path.name for path in tmp_path.iterdir()) == [*NAMES, "dead"]
    assert free_cpus_come_back()


def test_those_that_die_each_time_are_given_up(tmp_path: Path) -> None:
    with pytest.raises(
        SppError, match=r"2 processes .* came to nothing new in 1 tries, .*same command"
    ):
        run(in_step.always_dies, tmp_path, retries=0)
    assert (tmp_path / "deaths").read_text() == "x"
    assert free_cpus_come_back()


def test_what_a_person_can_mend_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^7 is not there: fetch it$"):
        run(in_step.refuses, tmp_path)
    assert (tmp_path / "tries").read_text() == "x"


def test_more_than_the_cluster_has(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError,
        match=r"workers = 3 with 1 CPUs each, and the cluster \(2 CPUs, .*\) has room for 2: set "
        r"workers = 2, or add machines",
    ):
        run(in_step.steps, tmp_path, workers=3)
    runner = RayRunner()
    with pytest.raises(RecipeError, match="gpus = 1, and no machine of the cluster has more than"):
        next(runner.together(in_step.steps, tmp_path, 2, 1, 1.0, print))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_machine_does_not_see(tmp_path: Path) -> None:
    expected = f"does not see {tmp_path}: .* that all machines share"
    with pytest.raises(InputError, match=expected):
        together._Process(1, 2).run(in_step.steps, tmp_path / "sign", "tcp://127.0.0.1:1")


def test_they_are_ended_when_the_run_is_stopped(tmp_path: Path) -> None:
    runner, pid = RayRunner(), tmp_path / "pid"

    def look_on() -> None:
        for _ in runner.together(in_step.works_for_ever, tmp_path, 2, 1, 0.0, print):
            if pid.exists():
                runner.stop.set()

    with pytest.raises(Stopped):
        look_on()
    assert told_of(tmp_path) == EXPECTED
    assert free_cpus_come_back()
    assert comes_true(lambda: not lives(int(pid.read_text())))


def test_one_process_is_not_several(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"pretrain\.workers = 2 .* --serial has one: .* = 1"):
        next(SerialRunner().together(in_step.steps, tmp_path, 2, 1, 0.0, print))
