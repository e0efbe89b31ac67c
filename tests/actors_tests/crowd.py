"""A crowd of extractors in name only: what the pool and the ledger do for a shard, without Ray.

`python -m tests.actors_tests.crowd` says what a shard costs with ever more of them.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import ray

from actors import cluster, crew, pool, runner
from actors.extractor import SHARDS_IN_HAND
from actors.worker import Worker
from pipeline import config
from tests.actors_tests.scripted import plans

MACHINE = "m"
SHARDS = 2000


class Ref:
    """An answer that is there as soon as somebody looks for it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


class Named:
    """An extractor's methods, and Ray's way to ask for one."""

    count = 0

    @classmethod
    def options(cls, **_: Any) -> Any:
        return SimpleNamespace(remote=lambda _: cls())

    def __init__(self) -> None:
        Named.count += 1
        here = Worker(MACHINE, "127.0.0.1", Named.count)
        self.place = self.ready = SimpleNamespace(remote=lambda: Ref(here))
        self.extract = SimpleNamespace(remote=lambda plan, wary: Ref(plan.shard_id))


@contextmanager
def crowd(extractors: int, answers: int) -> Iterator[Callable[[int], None]]:
    """Have so many up, each with its hands full; they answer so many at a time.

    What it gives has so many shards done.
    """

    def wait(refs: list[Ref], num_returns: int = 1, **_: Any) -> tuple[list[Ref], list[Ref]]:
        return refs[: min(num_returns, answers)], []

    def take(shards: int) -> None:
        for _ in range(shards):
            assert next(outcomes).error is None

    spec: Any = SimpleNamespace(split="made", features=config.Features())
    in_hand, free = extractors * SHARDS_IN_HAND, {"CPU": extractors}
    made = plans(*map(str, range(2 * in_hand + SHARDS)))
    with pytest.MonkeyPatch.context() as patch:
        stubs = {"wait": wait, "put": Ref, "kill": _nothing, "get": lambda ref: ref.answer}
        for name, stub in stubs.items():
            patch.setattr(ray, name, stub)
        patch.setattr(cluster, "_machines", lambda: [free])
        patch.setattr(cluster, "_free", lambda: {MACHINE: free})
        patch.setattr(cluster, "alive", lambda: {MACHINE})
        patch.setattr(cluster, "drained", set)
        patch.setattr(cluster, "can_grow", lambda *_: False)
        patch.setattr(crew, "Extractor", Named)
        patch.setattr(runner, "Meters", lambda *_: SimpleNamespace(now=_nothing, count=_nothing))
        patch.setattr(pool, "WATCH_S", math.inf)  # looked around once: later looks are no shard's
        outcomes: Any = runner.RayRunner().extract(spec, made, config.Extractor())
        with closing(outcomes):
            take(in_hand)
            yield take


def _nothing(*_: Any) -> None:
    pass


def operations(work: Callable[[], None]) -> int:
    """Return how many of Python's own operations the code in `actors` takes for some work.

    A list that is copied counts as one: what C does for a thousand is little.
    """
    folder, count = str(Path(pool.__file__).parent), 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(folder):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def cost_s(extractors: int, answers: int) -> float:
    """Seconds a shard."""
    with crowd(extractors, answers) as take:
        start_s = time.perf_counter()
        take(SHARDS)
        return (time.perf_counter() - start_s) / SHARDS


if __name__ == "__main__":
    for at_a_time in (1, 50):
        for many in (2, 100, 1000):
            cost_ms = 1000 * min(cost_s(many, at_a_time) for _ in range(3))
            said = f"{many:5,} extractors, {at_a_time:2} answers at a time"
            print(f"{said}: {cost_ms:.3f} ms a shard")  # noqa: T201
