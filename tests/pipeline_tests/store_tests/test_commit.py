"""Of several attempts at a shard one counts, in whatever order their steps fall."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import combinations
from typing import Any

import pytest

from pipeline import store
from pipeline.errors import SppError
from pipeline.store.place import Place, place
from pipeline.store.records import read_record
from tests import small_store

CALLS = ("bring", "create", "read", "replace", "remove", "look")


class Turns:
    """Lets two threads go on in turns, one call of a place each, as a schedule says."""

    def __init__(self, schedule: str) -> None:
        self._schedule = list(schedule)
        self._changed = threading.Condition()
        self._ended: set[str] = set()

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._next() in (name, ""), 60)
            if self._schedule:
                self._schedule.pop(0)
            yield  # one call at a time: an object in memory is written piece by piece
            self._changed.notify_all()

    def _next(self) -> str:
        while self._schedule and self._schedule[0] in self._ended:
            self._schedule.pop(0)
        return self._schedule[0] if self._schedule else ""

    def end(self, name: str) -> None:
        with self._changed:
            self._ended.add(name)
            self._changed.notify_all()


def run(root: Place, schedule: str, acts: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Two at one shard; what each of them was told."""
    turns, told = Turns(schedule), {}

    def gated(function):
        def call(self, *arguments, **options):
            of_a_shard = any(str(each).startswith(("shards/", "records/")) for each in arguments)
            if of_a_shard and threading.current_thread().name in acts and str(self) == str(root):
                with turns.turn(threading.current_thread().name):
                    return function(self, *arguments, **options)
            return function(self, *arguments, **options)

        return call

    def act():
        name = threading.current_thread().name
        try:
            told[name] = acts[name]()
        finally:
            turns.end(name)

    with pytest.MonkeyPatch.context() as patch:
        for call in CALLS:
            patch.setattr(type(root), call, gated(getattr(type(root), call)))
        threads = [threading.Thread(target=act, name=name) for name in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    return told


def attempts(root: Place, **flavours: int) -> dict[str, Callable[[], Any]]:
    return {
        name: partial(small_store.write_shard, root, "00000", False, flavour)
        for name, flavour in flavours.items()
    }


def schedules(most: int, others: int | None = None) -> list[str]:
    """All orders of so many calls of A, and as many of B, or `others`."""
    total = most + (most if others is None else others)
    return [
        "".join("A" if k in places else "B" for k in range(total))
        for places in combinations(range(total), most)
    ]


@pytest.mark.parametrize("where", ["folder", "memory"])
@pytest.mark.parametrize("equal", [True, False])
def test_two_attempts_in_any_order(tmp_path, files, equal, where):
    """Bring, create, read, remove: each of the 70 orders of four calls each."""
    flavours = {"A": 1, "B": 1 if equal else 2}
    winners = set()
    for number, schedule in enumerate(schedules(4)):
        root = place(tmp_path / f"{number}")
        if where == "memory":
            root = place(f"memory://test_commit/{equal}/{number}")
        told = run(root, schedule, attempts(root, **flavours))
        record = read_record(root, "00000")
        assert told == {"A": record, "B": record}, schedule
        assert set(files(root)) == {"records/00000.json", record.name("shards")}, schedule
        assert root.digest(record.name("shards")) == record.files["shards"].sha256
        winners.add(record.files["shards"].sha256)
    assert len(winners) == (1 if equal else 2)


def test_two_attempts_that_find_a_torn_record(files):
    """One of them stands, whole; what the other left is garbage at worst."""
    for number, schedule in enumerate(schedules(5)):
        root = place(f"memory://test_commit/torn/{number}")
        root.replace("records/00000.json", b'{"shard')
        told = run(root, schedule, attempts(root, A=1, B=2))
        record = read_record(root, "00000")
        assert record in told.values(), schedule
        assert root.digest(record.name("shards")) == record.files["shards"].sha256, schedule
        rest = set(files(root)) - {"records/00000.json", record.name("shards")}
        assert {each.name for each in store.gc(root, older_than_s=-60)} == rest


def test_an_attempt_and_gc_in_any_order(files):
    """Its rows lie there as an older one left them, and `gc` is told to spare nothing young."""
    ends = set()
    for number, schedule in enumerate(schedules(4, 6)):
        root = place(f"memory://test_commit/gc/{number}")
        name = small_store.write_shard(root, "00000", False).name("shards")
        root.remove("records/00000.json")

        def attempt(root=root):
            with suppress(SppError):
                return small_store.write_shard(root, "00000", False)

        collect = partial(store.gc, root, remove=True, older_than_s=-60)
        told = run(root, schedule, {"A": attempt, "B": collect})
        held = set(files(root))
        assert held in ({name, "records/00000.json"}, {name}, set()), schedule
        if told["A"] is not None and not told["B"]:
            assert held == {name, "records/00000.json"}, schedule
        ends.add((told["A"] is None, len(told["B"]), len(held)))
    assert {(False, 0, 2), (True, 1, 0)} <= ends


@pytest.mark.parametrize("flavour", [0, 1])
def test_a_zombie_changes_nothing(root, files, flavour):
    """An attempt ends long after the store was finished."""
    with store.ShardWriter(root, "00000", small_store.VECTOR.schema(), 1) as zombie:
        small_store.make(root)
        held = {name: data for name, data in files(root).items() if ".tmp." not in name}
        for image_id in "ab":
            rows = small_store.rows_with_vectors(image_id, flavour)
            zombie.write(rows)
        counts = store.open(root).record("00000").images
        assert zombie.commit("test", counts, {}, "inputs") == read_record(root, "00000")
    assert files(root) == held
    assert store.open(root).verify() == []


def test_an_answer_that_was_lost_is_no_second_shard(root, files, monkeypatch):
    """A record was created, and the reply never came: the request is sent again."""
    create = type(root).create

    def twice(self, name, data):
        create(self, name, data)
        return create(self, name, data)

    monkeypatch.setattr(type(root), "create", twice)
    record = small_store.write_shard(root, "00000", True)
    assert record == read_record(root, "00000")
    names = {record.name("shards"), record.name("maps"), "records/00000.json"}
    assert set(files(root)) == names


def test_eight_attempts_at_once(root, files):
    """Threads as they come, four of each of two flavours."""
    start = threading.Barrier(8)

    def attempt(flavour):
        start.wait()
        return small_store.write_shard(root, "00000", False, flavour)

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(attempt, [1, 2] * 4))
    record = read_record(root, "00000")
    assert told == [record] * 8
    assert set(files(root)) == {"records/00000.json", record.name("shards")}


def test_two_drivers_at_once(root, files, tmp_path, monkeypatch):
    """Two processes make the same store, and neither knows of the other."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.small_store"])
    here = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    drivers = [
        context.Process(
            target=small_store.make_with_faults, args=(str(root), True, [], here, tmp_path / name)
        )
        for name in ("one", "other")
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(60)
    assert [driver.exitcode for driver in drivers] == [0, 0]
    alone = place(tmp_path / "alone")
    small_store.make(alone, True)
    assert files(root) == files(alone)
