"""Two ways to run the same work: one after the other in this process, or on a Ray cluster.

Both answer every item, in the order they finish, with its result or with why there is none.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import ray

from actors.answers import Outcome, outcome_of
from actors.pool import Answer, ExtractorPool
from actors.resources import Resources, cluster_cpus, cpus_at_most, placement
from pipeline.config import Extractor as ExtractorSettings
from pipeline.errors import SppError
from pipeline.extraction import ExtractionSpec, ShardExtractor
from pipeline.store import ShardPlan
from pipeline.threads import torch_threads

POLL_S = 0.5  # how soon a stop is noticed
MANY_LOST = 8  # then there may be memory for one shard at a time, and not for two
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
        self, function: Callable[[Any], Any], items: Mapping[str, Any], cpus: int = 1
    ) -> Iterator[Outcome]:
        """Apply a function of the library to each item; the keys name them."""
        ...

    def extract(
        self, spec: ExtractionSpec, plans: Sequence[ShardPlan], settings: ExtractorSettings
    ) -> Iterator[Outcome]:
        """Extract every shard."""
        ...


class SerialRunner:
    """Everything in this process, in order: the meaning of the work, and a debugger's friend."""

    cpus = 1

    def __init__(self) -> None:
        self.stop = threading.Event()

    def map(
        self, function: Callable[[Any], Any], items: Mapping[str, Any], cpus: int = 1
    ) -> Iterator[Outcome]:
        """Apply a function of the library to each item; the keys name them."""
        del cpus
        for key, item in items.items():
            if self.stop.is_set():
                raise Stopped
            try:
                outcome = Outcome(key, function(item))
            except Exception as error:  # noqa: BLE001 - answered, as everything is
                outcome = Outcome(key, error=error)
            yield outcome

    def extract(
        self, spec: ExtractionSpec, plans: Sequence[ShardPlan], settings: ExtractorSettings
    ) -> Iterator[Outcome]:
        """Extract every shard."""
        del settings
        if plans:
            with torch_threads():  # an extractor sets its own number, here for the whole process
                yield from self.map(ShardExtractor(spec), {plan.shard_id: plan for plan in plans})


class RayRunner:
    """Bounded work in flight on a Ray cluster; every answer is looked at as it arrives."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    @property
    def cpus(self) -> int:
        """How many items of one CPU each it works on at a time."""
        return cluster_cpus()

    def map(
        self, function: Callable[[Any], Any], items: Mapping[str, Any], cpus: int = 1
    ) -> Iterator[Outcome]:
        """Apply a function of the library to each item, as Ray tasks of `cpus` CPUs each."""
        if not items:
            return
        each = cpus_at_most(cpus)
        task = ray.remote(_call).options(num_cpus=each, max_retries=Resources.retries)
        shared = ray.put(function)
        waiting = deque(items)
        flying: dict[ray.ObjectRef, str] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < TASKS_PER_CPU * cluster_cpus():
                    key = waiting.popleft()
                    flying[task.remote(shared, items[key])] = key
                for ref in self._done(list(flying)):
                    yield outcome_of(ref, flying.pop(ref))
        finally:
            for ref in flying:
                ray.cancel(ref, force=True)

    def extract(
        self, spec: ExtractionSpec, plans: Sequence[ShardPlan], settings: ExtractorSettings
    ) -> Iterator[Outcome]:
        """Extract every shard on a pool of actors that each hold the network."""
        if not plans:
            return
        pool = ExtractorPool(spec, placement(settings), min(settings.actors or 10**9, len(plans)))
        waiting = deque(plans)
        deaths: Counter[ShardPlan] = Counter()  # of what was lost, how often it was to blame
        try:
            while waiting or pool.is_busy:
                # What was lost comes after all others: who is sent alone stays alone.
                while waiting and pool.send(
                    waiting[0], alone=waiting[0] in deaths or len(deaths) >= MANY_LOST
                ):
                    waiting.popleft()
                for answer in self._answers(pool):
                    if not answer.lost:
                        yield answer.outcome
                        continue
                    deaths[answer.plan] += answer.suspect
                    if deaths[answer.plan] > settings.retries:
                        yield _given_up(answer, deaths[answer.plan])
                    else:
                        waiting.append(answer.plan)  # after the others, that they are done in peace
        finally:
            pool.close()

    def _answers(self, pool: ExtractorPool) -> Iterator[Answer]:
        for ref in self._done(pool.refs):
            yield from pool.answers(ref)

    def _done(self, refs: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
        if self.stop.is_set():
            raise Stopped
        # Waiting in short turns: a plain wait would hold the thread against Ctrl-C.
        return ray.wait(refs, num_returns=1, timeout=POLL_S)[0] if refs else []


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)


def _given_up(answer: Answer, deaths: int) -> Outcome:
    error = SppError(
        f"its extractor died {deaths} times at work on it: look at its images, or lower "
        f"extractor.actors if memory is short. Ray says: {answer.outcome.error}"
    )
    return Outcome(answer.plan.shard_id, error=error)
