"""The extractors there are: as many as there is work and room for, while machines come and go."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from actors import cluster
from actors.answers import outcome_of
from actors.extractor import SHARDS_IN_HAND, Extractor, Worker
from actors.ledger import OnEvent
from actors.policy import wanted
from actors.resources import Resources, in_words
from pipeline.errors import SppError
from pipeline.extraction import ExtractionSpec

WATCH_S = (
    2.0  # how soon a machine that came or went is noticed; what is free is known a second late
)
WAITING_S, AGAIN_S = 10.0, 300.0  # after which it is said that there is no room; and said again
PLACING_S = 60.0  # from finding room to a process there: an environment may have to be made


@dataclass(eq=False)
class Actor:
    """An extractor and what it has in hand."""

    handle: Any
    asked_s: float = field(default_factory=time.monotonic)
    worker: Worker | None = None
    """None while it waits for room."""
    ready: ray.ObjectRef | None = None
    is_up: bool = False
    flights: dict[ray.ObjectRef, Any] = field(default_factory=dict)


class Crew:
    """Extractors that are up, or on their way."""

    def __init__(
        self,
        spec: ExtractionSpec,
        each: Resources,
        least: int,
        most: int | None,
        on_event: OnEvent,
    ) -> None:
        self._least, self._most, self._on_event = least, most, on_event
        self._spec, self._each = ray.put(spec), each
        self._all: list[Actor] = []
        self._starting: dict[ray.ObjectRef, Actor] = {}
        """By what they answer: where they are, and that they are up."""
        self._deaths = self._wanted = 0
        self._told_s = float("-inf")

    @property
    def starting(self) -> Iterable[ray.ObjectRef]:
        """What those on their way may answer next."""
        return self._starting

    @property
    def up(self) -> list[Actor]:
        """Those that are at work, or ready for it."""
        return [actor for actor in self._all if actor.is_up]

    # --- as many as there is work and room for ----------------------------------------------------

    def fit(self, left: int, slow: int) -> None:
        """Look at the cluster; start and end actors for the shards left, of which some are slow."""
        self._drop_stranded()
        self._wanted = wanted(left, slow, self._room(), self._least, self._most)
        for actor in self._surplus()[: max(0, len(self._all) - self._wanted)]:
            self.end(actor, "actor_retired", reason=f"shards left: {left}")
        for _ in range(self._wanted - len(self._all)):
            self._start()
        self._tell_waiting()

    def _drop_stranded(self) -> None:
        """Forget actors that went with their machine while they had nothing to answer."""
        idle = [actor for actor in self.up if not actor.flights]
        present = cluster.alive() if idle else set()
        for actor in idle:
            if actor.worker is not None and actor.worker.machine not in present:
                self.end(actor, "actor_died", reason="its machine is gone", shards=0)

    def _room(self) -> int:
        """Return for how many there is room now.

        From what is free, not from what there is: what other jobs hold would be asked for in vain,
        and an autoscaler would bring machines for it, and then more for those.
        """
        free, since_s = cluster.room(self._each.asked, free=True), time.monotonic() - PLACING_S
        waits = [actor for actor in self._all if actor.worker is None]
        # Those that wait may have their place, and only the process is not there yet.
        fresh = [actor for actor in waits if actor.asked_s > since_s]
        for actor in [actor for actor in waits if actor not in fresh][:free]:
            self.end(
                actor, "actor_died", reason="there is room, and Ray did not start it", shards=0
            )
        found = len(self._all) - len(waits) + max(len(fresh), free)
        each = self._each.cpus + self._each.cpus_beside
        return min(found, int(cluster.total("CPU") // each)) if self._each.cpus_beside else found

    def _surplus(self) -> list[Actor]:
        """Return those that have nothing in hand; first those that wait for room, or load."""
        free = [actor for actor in self._all if not actor.flights]
        return sorted(free, key=lambda actor: (actor.is_up, actor.worker is not None))

    def _tell_waiting(self) -> None:
        """Say, once in a while, that there is room for fewer than were asked for."""
        now_s = time.monotonic()
        waits = [actor for actor in self._all if actor.worker is None]
        long = any(now_s - actor.asked_s > WAITING_S for actor in waits)
        if long and len(self._all) <= self._least and now_s - self._told_s > AGAIN_S:
            self._told_s = now_s
            fields = {"asked": str(self._each), "cluster": in_words()}
            self._on_event("waiting_for_room", waiting=len(waits), up=len(self.up), **fields)

    # --- from start to end ------------------------------------------------------------------------

    def _start(self) -> None:
        options: Any = Extractor.options(
            num_cpus=self._each.cpus,
            num_gpus=self._each.gpus,
            memory=self._each.memory_bytes,
            max_concurrency=SHARDS_IN_HAND,
            scheduling_strategy="SPREAD",  # a machine that goes takes few along
        )
        actor = Actor(options.remote(self._spec))
        self._all.append(actor)
        ready = actor.ready = actor.handle.ready.remote()
        self._starting |= {actor.handle.place.remote(): actor, ready: actor}

    def started(self, ref: ray.ObjectRef) -> bool:
        """Take note of an answer; False where it is none of somebody's start.

        Raises:
            SppError: actors cannot start, because of the recipe or again and again.
        """
        actor = self._starting.pop(ref, None)
        if actor is None:
            return False
        outcome = outcome_of(ref, "start")
        if outcome.error is not None:
            self._failed(actor, outcome.error)
            return True
        actor.worker = outcome.result
        if ref == actor.ready:
            actor.is_up, self._deaths = True, 0
            seconds = round(time.monotonic() - actor.asked_s, 1)
            told = {"worker": str(actor.worker), "up": len(self.up), "seconds": seconds}
            self._on_event("actor_started", **told)
        return True

    def _failed(self, actor: Actor, error: Exception) -> None:
        """Try again, elsewhere; do with fewer if some are up; else give up."""
        machine_gone = is_machine_gone(actor, error)
        self.end(actor, "actor_died", reason=str(error), shards=0)
        if not isinstance(error, RayError):
            raise error  # from the library: starting again would meet it again
        self._deaths += not machine_gone
        if self._deaths <= self._each.retries + self._wanted:
            self._start()
        elif self.up:
            self._most, self._deaths = len(self.up), 0
            self._least = min(self._least, self._most)
        else:
            raise SppError(
                f"extractors die while they start, {self._deaths} did: is there memory for "
                f"{self._wanted} networks? Lower extractor.max_actors. Ray says: {error}"
            )

    def end(self, actor: Actor, kind: str, **fields: Any) -> None:
        """End an actor, and say why. Nothing is said of one that goes before it had a place."""
        ray.kill(actor.handle)
        self._all.remove(actor)
        self._starting = {ref: each for ref, each in self._starting.items() if each is not actor}
        if kind == "actor_died" or actor.worker is not None:
            worker = "" if actor.worker is None else str(actor.worker)
            self._on_event(kind, worker=worker, up=len(self.up), **fields)

    def close(self) -> None:
        """End all actors, and with them what they had in work."""
        for actor in self._all:
            ray.kill(actor.handle)


def is_machine_gone(actor: Actor, error: Exception) -> bool:
    """Return whether an actor died with its machine, or is out of reach."""
    if isinstance(error, ActorUnavailableError):
        return True
    if isinstance(error, RayActorError) and error.preempted:
        return True
    return actor.worker is not None and actor.worker.machine not in cluster.alive()
