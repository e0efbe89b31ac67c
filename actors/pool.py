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


@dataclass(frozen=True)
class Answer:
    """What came back for a plan."""

    plan: ShardPlan
    outcome: Outcome
    lost: bool = False
    """No result: its extractor died."""
    suspect: bool = False
    """The extractor had nothing else in hand. Of two, either may have killed it."""


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

    def send(self, plan: ShardPlan, alone: bool = False) -> bool:
        """Give the plan to the actor with least in hand; False where none is free for it.

        One that is sent `alone` gets an actor with nothing in hand: should it die, it is plain at
        what. Who sends one so sends all that follow so, or it may get company.
        """
        in_hand = {id(actor): 0 for actor in self._up}
        for actor, _ in self._flying.values():
            in_hand[id(actor)] += 1
        actor = min(self._up, key=lambda actor: in_hand[id(actor)], default=None)
        if actor is None or in_hand[id(actor)] >= (1 if alone else SHARDS_IN_HAND):
            return False
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
        """Answer for all that a dead actor had in hand."""
        self._up.remove(actor)
        ray.kill(actor)  # one that is merely out of reach must not keep its place
        self._start()
        lost: list[tuple[ShardPlan, Outcome]] = []
        for ref in [ref for ref, (held, _) in self._flying.items() if held is actor]:
            plan = self._flying.pop(ref)[1]
            outcome = outcome_of(ref, plan.shard_id)
            if isinstance(outcome.error, RayActorError):
                lost.append((plan, outcome))
            else:
                yield Answer(plan, outcome)
        for plan, outcome in lost:
            yield Answer(plan, outcome, lost=True, suspect=len(lost) == 1)

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
