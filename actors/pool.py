"""A pool of extractors: started as the cluster has room, replaced when they die, ended together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from actors.answers import Outcome, outcome_of
from actors.extractor import SHARDS_IN_HAND, Extractor
from actors.resources import Resources, room
from pipeline.errors import SppError
from pipeline.extraction import ExtractionSpec
from pipeline.store import ShardPlan

QUEUED = 2  # per worker: one in work and one waiting, so that none idles and little is lost


@dataclass(frozen=True)
class Answer:
    """What came back for a plan."""

    plan: ShardPlan
    outcome: Outcome
    lost: bool = False
    """No result: its extractor died."""
    suspect: bool = False
    """It died at work on this plan; what else it had in its queue is not to blame."""


class ExtractorPool:
    """Extractors that come up as the cluster has room; only those that are up get work.

    A plan sent to an actor that waits for its place could wait for ever: two pools may each hold
    half of the cluster.
    """

    def __init__(self, spec: ExtractionSpec, each: Resources, limit: int) -> None:
        self._limit = min(limit, room(each))
        self._spec, self._each = ray.put(spec), each
        self._starting: dict[ray.ObjectRef, Any] = {}
        self._flying: dict[ray.ObjectRef, tuple[Any, ShardPlan]] = {}
        self._up: list[Any] = []
        self._deaths = 0
        for _ in range(self._limit):
            self._start()

    def _start(self) -> None:
        actor: Any = Extractor.options(
            num_cpus=self._each.cpus, num_gpus=self._each.gpus, max_concurrency=SHARDS_IN_HAND
        )
        handle = actor.remote(self._spec)
        self._starting[handle.ready.remote()] = handle

    @property
    def refs(self) -> list[ray.ObjectRef]:
        """What may be answered next."""
        return [*self._starting, *self._flying]

    @property
    def is_busy(self) -> bool:
        """Whether a plan is out."""
        return bool(self._flying)

    def send(self, plan: ShardPlan, queue: int = QUEUED) -> bool:
        """Give the plan to the actor with the shortest queue; False where all have `queue`."""
        queued = {id(actor): 0 for actor in self._up}
        for actor, _ in self._flying.values():
            queued[id(actor)] += 1
        free = [actor for actor in self._up if queued[id(actor)] < queue]
        if not free:
            return False
        actor = min(free, key=lambda actor: queued[id(actor)])
        self._flying[actor.extract.remote(plan)] = (actor, plan)
        return True

    def answers(self, ref: ray.ObjectRef) -> Iterator[Answer]:
        """Take note of an answer; yield the plans it settles: none for an actor's start.

        Raises:
            SppError: actors cannot start, because of the recipe or again and again.
        """
        if ref in self._starting:
            self._started(ref)
        elif ref in self._flying:
            actor, plan = self._flying[ref]
            outcome = outcome_of(ref, plan.shard_id)
            if isinstance(outcome.error, RayActorError):
                yield from self._bury(actor)
            else:
                del self._flying[ref]
                yield Answer(plan, outcome)

    def _bury(self, actor: Any) -> Iterator[Answer]:
        """Answer for all a dead actor had; its network took them in order: suspect the first."""
        self._up.remove(actor)
        ray.kill(actor)  # one that is merely out of reach must not keep its place
        self._start()
        suspected = False
        for ref in [ref for ref, (held, _) in self._flying.items() if held is actor]:
            plan = self._flying.pop(ref)[1]
            outcome = outcome_of(ref, plan.shard_id)
            if isinstance(outcome.error, RayActorError):
                yield Answer(plan, outcome, lost=True, suspect=not suspected)
                suspected = True
            else:
                yield Answer(plan, outcome)

    def _started(self, ref: ray.ObjectRef) -> None:
        actor = self._starting.pop(ref)
        error = outcome_of(ref, "start").error
        if error is None:
            self._up.append(actor)
            return
        ray.kill(actor)
        if not isinstance(error, RayActorError):
            raise error  # from the library: starting again would meet it again
        self._deaths += 1
        if self._deaths > self._each.retries + self._limit:
            raise SppError(
                f"extractors die while they start, {self._deaths} did: is there memory for "
                f"{self._limit} networks? Lower extractor.actors. Ray says: {error}"
            )
        self._start()

    def close(self) -> None:
        """End all actors, and with them what they had in work."""
        for actor in [*self._up, *self._starting.values()]:
            ray.kill(actor)
