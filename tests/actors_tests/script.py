"""What extractors by script do in their processes, which load this and hardly anything else.

Each is a process of its own, and there are hundreds: torch, which comes with the real extractor,
takes three seconds.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import ray

from actors.worker import Worker
from pipeline import config
from pipeline.errors import InputError, UnreachableError
from pipeline.store import ShardPlan


@dataclass(frozen=True)
class Script:
    """By shard, and for the start: what the first try does, the second, …, and all after."""

    folder: Path
    tries: dict[str, list[str]] = field(default_factory=dict)
    sick: int = 0
    """So many workers, the first to start, fail at all shards."""
    sick_machine: str = ""
    """And all workers on it."""
    dead_machine: str = ""
    """Workers on it cannot start."""
    split: str = "train"
    features: config.Features = field(default_factory=config.Features)

    def act(self, name: str, number: int) -> str:
        """Do as the script says."""
        says = self.tries.get(name, ["ok"])
        match says[min(number, len(says) - 1)]:
            case "die":
                os._exit(1)
            case "bad":
                raise InputError(f"{name} has 3 of 5 tensors: fetch the file again")
            case "bug":
                raise ZeroDivisionError(name)
            case "store":
                raise UnreachableError(f"the store does not take {name}")
            case "long":
                time.sleep(60)
            case "short":
                time.sleep(0.2)
            case "gate" | "second gate" as gate:
                wait_until((self.folder / gate).exists, 110)  # longer than who opens it waits
        return f"{name} done"

    def begin(self, name: str) -> int:
        """Leave a file that tells the process; return how many there were before: the tries."""
        for number in count():
            with suppress(FileExistsError), (self.folder / f"{name}.{number}").open("x") as mark:
                mark.write(str(os.getpid()))
                return number
        raise AssertionError

    def open(self, gate: str = "gate") -> None:
        (self.folder / gate).touch()

    def count(self, name: str) -> int:
        return len(list(self.folder.glob(f"{name}.[0-9]*")))

    def pid(self, name: str, number: int = 0) -> int:
        """The process of a try, once it has begun."""
        mark = self.folder / f"{name}.{number}"
        wait_until(lambda: mark.exists() and mark.read_text() != "", 60)
        return int(mark.read_text())

    def pids(self) -> set[int]:
        return {int(mark.read_text()) for mark in self.folder.glob("*.[0-9]*")}


@ray.remote
class Scripted:
    """The extractor's methods."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def place(self) -> Worker:
        return Worker.here()

    def ready(self) -> Worker:
        number = self._script.begin("start")
        machine = Worker.here().machine
        (self._script.folder / f"machine-{number}").write_text(machine)
        self._is_sick = machine == self._script.sick_machine or number < self._script.sick
        if machine == self._script.dead_machine:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), "/dev/nvidia0")
        self._script.act("start", number)
        return Worker.here()

    def extract(self, plan: ShardPlan, wary: bool = False) -> str:
        number = self._script.begin(plan.shard_id)
        if self._is_sick:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp")
        return self._script.act(plan.shard_id, number)


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
