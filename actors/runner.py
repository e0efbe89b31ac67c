"""Running work on a Ray cluster, and what every runner does; `serial` has the other one.

Both answer every item, in the order they finish, with its result or with why there is none.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import WorkerCrashedError

from actors import cluster
from actors.answers import outcome_of
from actors.ledger import Answer, Ledger, OnEvent, Outcome, ignore
from actors.meters import Meters
from actors.pool import ExtractorPool
from actors.resources import Resources, placement, require_room
from actors.task import call
from actors.together import train_together
from pipeline.config import Extractor as ExtractorSettings
from pipeline.extraction import ExtractionSpec
from pipeline.store import ShardPlan

POLL_S = 0.5  # how soon a stop is noticed
# What may be the machine's fault: a full disk, a lost mount, a failing card. Ray tries such a task
# again at once, wherever there is room.
MAY_PASS = [OSError, MemoryError, RuntimeError]
TASKS_PER_CPU = 2  # one at work and one waiting, so that none idles and little is lost


class Stopped(Exception):  # noqa: N818 - not a fault: somebody asked for it
    """The run was asked to stop."""


class Runner(Protocol):
    """Runs functions over items, and extractors over shard plans."""

    stop: threading.Event

    @property
    def cpus(self) -> int:
        """How many items of one CPU each it works on at a time."""
        ...

    def map(
        self,
        function: Callable[[Any], Any],
        items: Mapping[str, Any],
        cpus: int = 1,
        gpus: float | None = 0,
    ) -> Iterator[Outcome]:
        """Apply a function of the library to each item; the keys name them.

        Args:
            function: takes an item.
            items: by key.
            cpus: that each call takes.
            gpus: likewise; None: 1 where there are GPUs, else 0.
        """
        ...

    def together(
        self,
        function: Callable[[Path], None],
        told: Path,
        workers: int,
        cpus: int,
        gpus: float | None,
        note: Callable[[str], None],
    ) -> Generator[None]:
        """Run a function of the library in several processes that train together.

        Yields now and then while they are at work; they are ended where nobody listens any more.

        Args:
            function: takes `told`, does what is not told of there yet, and tells of each step.
            told: a folder that all machines see.
            workers: how many processes.
            cpus: that each takes.
            gpus: likewise; None: 1 where there are GPUs, else 0.
            note: takes what people should know.

        Raises:
            RecipeError: there is no room for them, and none will come.
            SppError: what the function raised, or processes died too often.
            Stopped: `stop` was set.
        """
        ...

    def extract(
        self,
        spec: ExtractionSpec,
        plans: Sequence[ShardPlan],
        settings: ExtractorSettings,
        on_event: OnEvent = ignore,
    ) -> Iterator[Outcome]:
        """Extract every shard; one outcome each, in the order they finish.

        Args:
            spec: what an extractor needs to know.
            plans: indexed one by one, never copied: there may be 10⁵.
            settings: how many extractors, and what each takes.
            on_event: called with `actor_started`, `actor_died`, `actor_retired`, `actor_sick`,
                `shard_retried`, `shard_given_up` or `waiting_for_room`, and that event's fields by
                name.

        Raises:
            RecipeError: no machine holds an extractor, and none will come.
            SppError: extractors cannot start, or shard after shard fails on all.
            Stopped: `stop` was set.
        """
        ...


class RayRunner:
    """Bounded work in flight on a Ray cluster; every answer is looked at as it arrives."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    @property
    def cpus(self) -> int:
        """How many items of one CPU each it works on at a time."""
        return cluster.cpus()

    def map(
        self,
        function: Callable[[Any], Any],
        items: Mapping[str, Any],
        cpus: int = 1,
        gpus: float | None = 0,
    ) -> Iterator[Outcome]:
        """Apply a function of the library to each item, as Ray tasks of `cpus` CPUs each.

        Raises:
            RecipeError: no machine of the cluster has as many GPUs.
        """
        if not items:
            return
        takes = {"num_cpus": cluster.cpus_at_most(cpus), "num_gpus": cluster.gpus_for(gpus)}
        remote = ray.remote(call)
        task = remote.options(**takes, max_retries=Resources.retries, retry_exceptions=MAY_PASS)
        last = remote.options(**takes, max_retries=0)
        shared = ray.put(function)
        waiting = deque(items)
        flying: dict[ray.ObjectRef, str] = {}
        died: set[str] = set()
        try:
            while waiting or flying:
                while waiting and len(flying) < TASKS_PER_CPU * cluster.cpus():
                    key = waiting.popleft()
                    chosen, wary = (last, True) if key in died else (task, False)
                    flying[chosen.remote(shared, items[key], wary)] = key
                for ref in self._done(list(flying)):
                    outcome = outcome_of(ref, key := flying.pop(ref))
                    if isinstance(outcome.error, WorkerCrashedError) and key not in died:
                        # Of all tries: an image may be why, and is then told from the others.
                        died.add(key)
                        waiting.append(key)
                        continue
                    yield outcome
        finally:
            for ref in flying:
                ray.cancel(ref, force=True)

    def together(
        self,
        function: Callable[[Path], None],
        told: Path,
        workers: int,
        cpus: int,
        gpus: float | None,
        note: Callable[[str], None],
    ) -> Generator[None]:
        """Run a function of the library in several processes that train together."""
        each = Resources(cluster.cpus_at_most(cpus), cluster.gpus_for(gpus))
        with closing(train_together(function, told, workers, each, note)) as at_work:
            for _ in at_work:
                if self.stop.is_set():
                    raise Stopped
                yield

    def extract(
        self,
        spec: ExtractionSpec,
        plans: Sequence[ShardPlan],
        settings: ExtractorSettings,
        on_event: OnEvent = ignore,
    ) -> Iterator[Outcome]:
        """Extract every shard on a pool of actors that each hold the network."""
        if not plans:
            return
        each = placement(settings)
        require_room(each)
        ledger = Ledger(plans, settings.retries, on_event)
        pool = ExtractorPool(spec, each, settings.min_actors, settings.max_actors, on_event)
        told = Meters(spec.split, spec.features.layer)
        try:
            while ledger.left:
                pool.watch(ledger.left)
                give_out(ledger, pool, on_event)
                told.now(ledger.waiting, ledger.out, pool.up)
                for answer in self._answers(pool):
                    outcome = ledger.answered(answer)
                    if outcome is not None:
                        pool.settle(answer.plan, done=outcome.error is None)
                        told.count(outcome)
                        yield outcome
                        ledger.check(outcome)
        finally:
            pool.close()
            told.now(0, 0, 0)

    def _answers(self, pool: ExtractorPool) -> Iterator[Answer]:
        yield from pool.end_hung()
        for ref in self._done(pool.refs):
            yield from pool.answers(ref)

    def _done(self, refs: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
        if self.stop.is_set():
            raise Stopped
        if not refs:  # what failed has a pause
            self.stop.wait(POLL_S)
            return []
        # Waiting in short turns: a plain wait would hold the thread against Ctrl-C.
        done = ray.wait(refs, num_returns=1, timeout=POLL_S)[0]
        # All that are there at once: looking at thousands for each answer costs more than they do.
        return ray.wait(refs, num_returns=len(refs), timeout=0)[0] if done else []


def give_out(ledger: Ledger, pool: ExtractorPool, on_event: OnEvent) -> None:
    """Give out what failed, then what waits; and what takes long to a second actor, if free."""
    for plan, alone in ledger.failed():
        if pool.send(plan, alone, ledger.has_killed(plan)):
            ledger.sent(plan)
    while ledger.is_next:
        plan, alone = ledger.next()
        if not pool.send(plan, alone, ledger.has_killed(plan)):
            break
        ledger.sent(plan)
    for plan in pool.slow():
        if ledger.workers(plan) == 1 and pool.send(plan, True, ledger.has_killed(plan)):
            ledger.sent(plan)
            reason = "takes long: a second extractor does it too"
            on_event("shard_retried", shard_id=plan.shard_id, reason=reason)
