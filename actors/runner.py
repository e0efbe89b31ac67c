"""Two ways to run the same work: one after the other in this process, or on a Ray cluster.

Both answer every item, in the order they finish, with its result or with why there is none.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from actors.extractor import Extractor
from actors.resources import Resources, cluster_cpus, cluster_gpus
from pipeline.config import Extractor as ExtractorSettings
from pipeline.errors import SppError
from pipeline.extraction import ExtractionSpec, ShardExtractor
from pipeline.store import ShardPlan

QUEUED = 2  # per worker: one in work and one waiting, so that none idles and little is lost
POLL_S = 0.5  # how soon a stop is noticed


@dataclass(frozen=True)
class Outcome:
    """What became of one item: `error` is None where `result` counts."""

    key: str
    result: Any = None
    error: Exception | None = None


class Stopped(Exception):  # noqa: N818 - not a fault: somebody asked for it
    """The run was asked to stop."""


class Runner(Protocol):
    """Runs functions over items, and extractors over shard plans."""

    stop: threading.Event

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
                yield Outcome(key, function(item))
            except SppError as error:
                yield Outcome(key, error=error)

    def extract(
        self, spec: ExtractionSpec, plans: Sequence[ShardPlan], settings: ExtractorSettings
    ) -> Iterator[Outcome]:
        """Extract every shard."""
        del settings
        if plans:
            yield from self.map(ShardExtractor(spec), {plan.shard_id: plan for plan in plans})


class RayRunner:
    """Bounded work in flight on a Ray cluster; every answer is looked at as it arrives."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def map(
        self, function: Callable[[Any], Any], items: Mapping[str, Any], cpus: int = 1
    ) -> Iterator[Outcome]:
        """Apply a function of the library to each item, as Ray tasks of `cpus` CPUs each."""
        task = ray.remote(_call).options(num_cpus=cpus, max_retries=Resources.retries)
        shared = ray.put(function)
        waiting = deque(items)
        flying: dict[ray.ObjectRef, str] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < QUEUED * cluster_cpus():
                    key = waiting.popleft()
                    flying[task.remote(shared, items[key])] = key
                for ref in self._done(list(flying)):
                    yield _outcome(ref, flying.pop(ref))
        finally:
            for ref in flying:
                ray.cancel(ref, force=True)

    def extract(
        self, spec: ExtractionSpec, plans: Sequence[ShardPlan], settings: ExtractorSettings
    ) -> Iterator[Outcome]:
        """Extract every shard on a pool of actors that each hold the network."""
        pool = _Pool(spec, placement(settings), min(settings.actors or 10**9, len(plans)))
        waiting, tries = deque(plans), dict.fromkeys(plans, 0)
        try:
            while waiting or pool.busy:
                while waiting and pool.send(waiting[0]):
                    waiting.popleft()
                for ref in self._done(pool.refs):
                    plan = pool.answered(ref)
                    if plan is None:
                        continue
                    outcome = _outcome(ref, plan.shard_id)
                    tries[plan] += 1
                    if isinstance(outcome.error, RayActorError) and tries[plan] <= settings.retries:
                        waiting.appendleft(plan)
                    else:
                        yield outcome
        finally:
            pool.close()

    def _done(self, refs: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
        if self.stop.is_set():
            raise Stopped
        # Waiting in short turns: a plain wait would hold the thread against Ctrl-C.
        return ray.wait(refs, num_returns=1, timeout=POLL_S)[0] if refs else []


def placement(settings: ExtractorSettings) -> Resources:
    """Return what each extractor reserves on the cluster at hand."""
    gpus = settings.gpus if settings.gpus is not None else float(cluster_gpus() > 0)
    return Resources(settings.cpus, gpus, settings.retries)


class _Pool:
    """Extractors that come up as the cluster has room; only those that are up get work.

    A plan sent to an actor that waits for its place could wait for ever: two pools may each hold
    half of the cluster.
    """

    def __init__(self, spec: ExtractionSpec, each: Resources, limit: int) -> None:
        self._spec, self._each = ray.put(spec), each
        self._limit = max(1, min(limit, _room(each)))
        self._starting: dict[ray.ObjectRef, Any] = {}
        self._flying: dict[ray.ObjectRef, tuple[Any, ShardPlan]] = {}
        self._up: list[Any] = []
        self._failures = 0
        for _ in range(self._limit):
            self._start()

    def _start(self) -> None:
        actor = Extractor.options(num_cpus=self._each.cpus, num_gpus=self._each.gpus)
        handle = actor.remote(self._spec)
        self._starting[handle.ready.remote()] = handle

    @property
    def refs(self) -> list[ray.ObjectRef]:
        return [*self._starting, *self._flying]

    @property
    def busy(self) -> bool:
        return bool(self._flying)

    def send(self, plan: ShardPlan) -> bool:
        """Give the plan to the actor with the shortest queue; False where all are full."""
        queued = {id(actor): 0 for actor in self._up}
        for actor, _ in self._flying.values():
            queued[id(actor)] = queued.get(id(actor), 0) + 1
        free = [actor for actor in self._up if queued[id(actor)] < QUEUED]
        if not free:
            return False
        actor = min(free, key=lambda actor: queued[id(actor)])
        self._flying[actor.extract.remote(plan)] = (actor, plan)
        return True

    def answered(self, ref: ray.ObjectRef) -> ShardPlan | None:
        """Take note of an answer; return the plan it belongs to, or None for an actor's start.

        Raises:
            SppError: actors cannot start, because of the recipe or again and again.
        """
        if ref in self._starting:
            actor = self._starting.pop(ref)
            outcome = _outcome(ref, "start")
            if outcome.error is None:
                self._up.append(actor)
            else:
                self._failed_start(outcome.error)
            return None
        actor, plan = self._flying.pop(ref)
        if actor in self._up and isinstance(_outcome(ref, plan.shard_id).error, RayActorError):
            self._up.remove(actor)
            self._start()
        return plan

    def _failed_start(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(error, SppError):
            raise error
        if self._failures > self._each.retries + self._limit:
            raise SppError(
                f"extractors cannot start, {self._failures} tried; the last said: {error}"
            )
        self._start()

    def close(self) -> None:
        for actor in [*self._up, *self._starting.values()]:
            ray.kill(actor)


def _room(each: Resources) -> int:
    """How many workers of this size the cluster holds."""
    by_cpu = cluster_cpus() // each.cpus if each.cpus else 10**9
    return max(1, min(by_cpu, int(cluster_gpus() / each.gpus)) if each.gpus else by_cpu)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)


def _outcome(ref: ray.ObjectRef, key: str) -> Outcome:
    try:
        return Outcome(key, ray.get(ref))
    except RayTaskError as error:
        # An error of our own came from the library: trying again would meet it again.
        return Outcome(key, error=error.cause if isinstance(error.cause, SppError) else error)
    except RayError as error:
        return Outcome(key, error=error)
