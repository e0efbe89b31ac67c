"""The extractors there are: as many as there is work and room for, while machines come and go.

Where an autoscaler looks after the cluster, a few more are asked for than there is room for, while
shards are left for them: it brings machines for actors that wait, and for nothing else.
"""

import time
from collections.abc import Iterable, Set
from typing import Any

import ray
from ray.exceptions import RayError

from actors import cluster
from actors.actor import Actor, is_machine_gone
from actors.answers import outcome_of
from actors.extractor import SHARDS_IN_HAND, Extractor
from actors.ledger import OnEvent, may_pass
from actors.policy import Cap, room, wanted, with_cpus_beside
from actors.resources import Resources, in_words
from actors.trust import Bars
from pipeline.errors import SppError
from pipeline.extraction import ExtractionSpec

# How soon a machine that came or went is noticed; Ray knows what is free a second late.
WATCH_S = 2.0
WAITING_S, AGAIN_S = 10.0, 300.0  # after which it is said that there is no room; and said again
PLACING_S = 60.0  # from finding room to a process there: an environment may have to be made
ANSWER_S = 2.0  # for an actor that is there to say where
LOADING_S = 600.0  # after which nobody counts any more on an actor that is not up
_MACHINE = "ray.io/node-id"  # Ray's name for the label


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
        self._up: dict[Actor, None] = {}
        """In the order in which they came."""
        self._starting: dict[ray.ObjectRef, Actor] = {}
        """By what they answer: where they are, and that they are up."""
        self._deaths = self._wanted = 0
        self._told_s, self._full_s = float("-inf"), time.monotonic()
        """When it was said that there is no room; when last nobody waited though there was some."""
        self._cap, self._bars = Cap(), Bars()
        self._grows = False

    @property
    def starting(self) -> Iterable[ray.ObjectRef]:
        """What those on their way may answer next."""
        return self._starting

    @property
    def up(self) -> list[Actor]:
        """Those that are at work, or ready for it."""
        return list(self._up)

    @property
    def is_more_coming(self) -> bool:
        """Whether others should be up in a while: they load, or were asked for a moment ago."""
        since_s = time.monotonic() - PLACING_S
        return self._is_one_loading or any(actor.asked_s > since_s for actor in self._waits)

    @property
    def _is_one_loading(self) -> bool:
        since_s = time.monotonic() - LOADING_S
        placed = (actor for actor in self._all if actor.worker is not None)
        return any(not actor.is_up and actor.asked_s > since_s for actor in placed)

    # --- as many as there is work and room for ----------------------------------------------------

    def fit(self, left: int, slow: int) -> None:
        """Look at the cluster; start and end actors for the shards left, of which some are slow."""
        machines = cluster.alive()
        self._drop_stranded(machines)
        self._grows = self._grows or cluster.can_grow()
        limits = (self._least, self._most, machines, time.monotonic())
        least, most = self._cap.limits(*limits)
        self._wanted = wanted(left, slow, self._room(), least, most)
        for actor in self._surplus()[: max(0, len(self._all) - self._wanted)]:
            self.end(actor, "actor_retired", reason=f"shards left: {left}")
        for _ in range(self._wanted - len(self._all)):
            self._start()
        self._tell_waiting()

    @property
    def _waits(self) -> list[Actor]:
        """Those that wait for room."""
        return [actor for actor in self._all if actor.worker is None]

    def _drop_stranded(self, machines: Set[str]) -> None:
        """Let actors go whose machine went or is about to, with what they have in hand."""
        drained = cluster.drained()
        for actor in self.up:
            if actor.worker is None or actor.worker.machine in machines:
                continue
            if actor.worker.machine in drained:
                kind, reason = "actor_retired", "its machine is being drained"
            else:
                kind, reason = "actor_died", "its machine is gone"
            self._leave(actor, reason)
            if not actor.flights:
                self.end(actor, kind, reason=reason)

    def _leave(self, actor: Actor, reason: str) -> None:
        actor.leaving = reason
        del self._up[actor]

    def _room(self) -> int:
        """Return for how many there is room now, or may be if they are asked for.

        From what is free, not from what there is: what other jobs hold would be asked for in vain,
        and an autoscaler would bring machines for it, and then more for those.
        """
        now_s, waits = time.monotonic(), self._waits
        placed = len(self._all) - len(waits)
        free = self._free(placed)
        # Those that wait may have their place, and only the process is not there yet.
        fresh = [actor for actor in waits if actor.asked_s > now_s - PLACING_S]
        if not free or not waits:
            self._full_s = now_s
        if self._full_s < now_s - PLACING_S:
            for actor in [actor for actor in waits if actor not in fresh][:free]:
                reason = "there is room, and Ray did not start it"
                self.end(actor, "actor_died", reason=reason)
        return room(placed, len(fresh), free, self._grows and self._may_wait)

    @property
    def _may_wait(self) -> bool:
        """Whether one may be asked for that has no room, without taking a CPU that is for tasks.

        It would get the first that a task lets go, unless it waits for a GPU. For CPUs alone there
        is no need: the tasks that wait for one tell the autoscaler.
        """
        if not self._each.cpus_beside:
            return True
        return self._each.gpus > 0 and not cluster.free_room(self._each.asked)

    def _free(self, placed: int) -> int:
        """Return how many fit into what is free; of the CPUs one stays for each's own tasks."""
        free = cluster.free_room(self._each.asked, self._barred())
        if not free and not self.up:
            self._bars.lift()
        if not self._each.cpus_beside:
            return free
        each = (self._each.cpus, self._each.cpus_beside)
        return min(free, with_cpus_beside(cluster.free_cpus(), placed, *each))

    def _surplus(self) -> list[Actor]:
        """Return those that have nothing in hand; first those that wait for room, or load."""
        free = [actor for actor in self._all if not actor.flights]
        return sorted(free, key=lambda actor: (actor.is_up, actor.worker is not None))

    def _barred(self) -> set[str]:
        """Return the machines that no more start on; none, if these are all there are."""
        machines = cluster.alive()
        barred = self._bars.machines(time.monotonic()) & machines
        return set() if barred == machines else barred

    def retire(self, actor: Actor, reason: str) -> None:
        """Give an actor no more work than it has in hand; `fit` asks for another one."""
        self._leave(actor, reason)
        self._on_event("actor_sick", worker=str(actor.worker), up=len(self.up), reason=reason)
        self._blame_machine(actor, reason)

    def _blame_machine(self, actor: Actor, reason: str) -> None:
        """Hold a sick actor, or one that could not start, against its machine."""
        if actor.worker is None:
            return
        barred_s = self._bars.blame(actor.worker.machine, time.monotonic())
        if barred_s and self._barred():
            where = {"machine": actor.worker.machine, "address": actor.worker.address}
            self._on_event("machine_barred", **where, seconds=barred_s, reason=reason)

    def _tell_waiting(self) -> None:
        """Say, once in a while, that there is room for fewer than were asked for."""
        now_s, waits = time.monotonic(), self._waits
        if len(self.up) >= self._least or now_s - self._told_s < AGAIN_S:
            return
        if any(now_s - actor.asked_s > WAITING_S for actor in waits):
            self._told_s = now_s
            fields = {"asked": str(self._each), "cluster": in_words()}
            self._on_event("waiting_for_room", waiting=len(waits), up=len(self.up), **fields)

    # --- from start to end ------------------------------------------------------------------------

    def _start(self) -> None:
        barred = self._barred()
        options: Any = Extractor.options(
            num_cpus=self._each.cpus,
            num_gpus=self._each.gpus,
            memory=self._each.memory_bytes,
            max_concurrency=SHARDS_IN_HAND,
            scheduling_strategy="SPREAD",  # a machine that goes takes few along
            label_selector={_MACHINE: f"!in({','.join(sorted(barred))})"} if barred else None,
        )
        actor = Actor(options.remote(self._spec))
        self._all.append(actor)
        ready = actor.ready = actor.handle.ready.remote()
        self._starting |= {actor.handle.place.remote(): actor, ready: actor}

    def started(self, ref: ray.ObjectRef) -> Actor | None:
        """Take note of an answer of somebody's start, and return whose; None if it is none.

        Raises:
            SppError: actors cannot start, because of the recipe or again and again.
        """
        actor = self._starting.pop(ref, None)
        if actor is None:
            return None
        outcome = outcome_of(ref, "start")
        if outcome.error is not None:
            if not actor.is_up:  # one that is may have died since: what it has in hand tells
                self._learn_place(actor, outcome.error)
                self._failed(actor, outcome.error)
            return actor
        actor.worker = outcome.result
        if ref == actor.ready:
            actor.is_up, self._deaths = True, 0
            self._up[actor] = None
            self._cap.started(len(self.up))
            seconds = round(time.monotonic() - actor.asked_s, 1)
            told = {"worker": str(actor.worker), "up": len(self.up), "seconds": seconds}
            self._on_event("actor_started", **told)
        return actor

    def _learn_place(self, actor: Actor, error: Exception) -> None:
        """Take note where an actor is whose failure came before the answer where it is."""
        refs = [ref for ref, each in self._starting.items() if each is actor]
        # It was asked first, and who could raise an error of its own can answer; the dead cannot.
        wait_s = 0.0 if isinstance(error, RayError) else ANSWER_S
        for ref in ray.wait(refs, num_returns=len(refs), timeout=wait_s)[0] if refs else ():
            actor.worker = outcome_of(ref, "start").result

    def _failed(self, actor: Actor, error: Exception) -> None:
        """Leave it to `fit` to try again; do with fewer if some are up; else give up."""
        machine_gone = is_machine_gone(actor, error)
        self.end(actor, "actor_died", reason=str(error))
        if not may_pass(error):
            raise error  # from the library: starting again would meet it again
        if machine_gone:
            return
        self._deaths += 1
        self._blame_machine(actor, str(error))
        # Where a cap holds, one more was tried, and its failure is no news. On a new machine it is,
        # and where nobody is up the run depends on the next one.
        is_news = not self.up or not self._cap.holds(cluster.alive())
        allowed = self._each.retries + self._wanted if is_news else 0
        if self._deaths <= allowed or self._is_one_loading:
            return
        if self.up:
            self._cap.set(len(self.up), cluster.alive(), time.monotonic())
            self._deaths = 0
        elif isinstance(error, RayError):
            raise SppError(
                f"extractors die while they start, {self._deaths} did: is there memory for "
                f"{self._wanted} networks? Lower extractor.max_actors. Ray says: {error}"
            )
        else:
            raise SppError(
                f"extractors cannot start, {self._deaths} could not: mend that, and run the same "
                f"command again. The last said: {type(error).__name__}: {error}"
            )

    def end(self, actor: Actor, kind: str, **fields: Any) -> None:
        """End an actor, and say why. Nothing is said of one that goes before it had a place."""
        ray.kill(actor.handle)
        self._all.remove(actor)
        self._up.pop(actor, None)
        actor.is_up = False
        self._starting = {ref: each for ref, each in self._starting.items() if each is not actor}
        if kind == "actor_died" or actor.worker is not None:
            worker = "" if actor.worker is None else str(actor.worker)
            self._on_event(kind, worker=worker, up=len(self.up), **fields)

    def close(self) -> None:
        """End all actors, and with them what they had in work."""
        for actor in self._all:
            ray.kill(actor.handle)
