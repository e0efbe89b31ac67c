"""Extractors by script: what each try of each shard does. For tests here and in other processes."""

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import ray

from actors import crew, policy, pool, trust
from actors.extractor import Worker
from actors.runner import RayRunner
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


def plans(*names: str) -> list[ShardPlan]:
    return [ShardPlan(name, (name,), 1, 1) for name in names]


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


Events = list[tuple[str, dict[str, Any]]]


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have extractors by script, and little patience."""
    monkeypatch.setattr(crew, "Extractor", Scripted)
    monkeypatch.setattr(pool, "WATCH_S", 0.2)
    monkeypatch.setattr(crew, "WAITING_S", 0.5)
    monkeypatch.setattr(trust, "PAUSES_S", (0.0,))
    monkeypatch.setattr(policy, "SLOW_S", 1.5)


def extract(
    script: Script,
    *names: str,
    meanwhile: Callable[[Events], None] = lambda _: None,
    **settings: Any,
) -> tuple[dict[str, Any], Events]:
    """Return the result of each shard, each answered once, and what was told.

    Meanwhile somebody looks at what is told, and opens gates.
    """
    told: Events = []

    def note(kind: str, **fields: Any) -> None:
        told.append((kind, fields))

    with ThreadPoolExecutor(1) as beside:
        looking = beside.submit(meanwhile, told)
        chosen: Any = (script, plans(*names), config.Extractor(**settings), note)
        found = [(each.key, each.result) for each in RayRunner().extract(*chosen)]
        looking.result()
    assert len(found) == len(dict(found)), "a shard was answered twice"
    return dict(found), told


def kinds(events: Events) -> list[str]:
    return [kind for kind, _ in events]
