"""A pool of extractors: who gets which shard, and what their answers and deaths mean."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from actors.actor import Actor, is_machine_gone
from actors.answers import outcome_of
from actors.bench import Bench
from actors.crew import WATCH_S, Crew
from actors.extractor import SHARDS_IN_HAND
from actors.ledger import Answer, OnEvent, Outcome, ignore, may_pass
from actors.policy import USUAL_OF, hung_after_s, slow_after_s
from actors.resources import Resources
from actors.trust import FAILED_IN_A_ROW, Trust
from pipeline.errors import SppError
from pipeline.extraction import ExtractionSpec
from pipeline.store import ShardPlan

KILLED_S = 10.0  # for Ray to answer for what a killed actor had in hand


@dataclass(eq=False)
class Flight:
    """A plan on its way through an actor."""

    actor: Actor
    plan: ShardPlan
    alone: bool
    sent_s: float = field(default_factory=time.monotonic)
    settled: bool = False
    """Another actor was faster."""


class ExtractorPool:
    """Extractors that come up as the cluster has room; only those that are up get work.

    A plan sent to an actor that waits for its place could wait for ever: two pools may each hold
    half of the cluster.
    """

    def __init__(
        self,
        spec: ExtractionSpec,
        each: Resources,
        least: int = 1,
        most: int | None = None,
        on_event: OnEvent = ignore,
    ) -> None:
        self._crew = Crew(spec, each, least, most, on_event)
        self._trust, self._bench = Trust(), Bench()
        self._flying: dict[ray.ObjectRef, Flight] = {}
        self._by_shard: dict[str, list[Flight]] = {}
        self._slow: dict[ray.ObjectRef, Flight] = {}
        """Of those that fly, out for much longer than is usual."""
        self._hung: dict[ray.ObjectRef, Flight] = {}
        """Out for so long that their actors must be standing still."""
        self._finished_s: deque[float] = deque(maxlen=USUAL_OF)
        self._watched_s = float("-inf")

    @property
    def refs(self) -> list[ray.ObjectRef]:
        """What may be answered next."""
        return [*self._crew.starting, *self._flying]

    @property
    def up(self) -> int:
        """How many actors are at work, or ready for it."""
        return len(self._crew.up)

    def watch(self, left: int) -> None:
        """Look around, every now and then: which shards take long, and how many actors fit."""
        now_s = time.monotonic()
        if now_s - self._watched_s < WATCH_S:
            return
        self._watched_s = now_s
        self._slow = self._sent_before(now_s - slow_after_s(self._finished_s))
        self._hung = self._sent_before(now_s - hung_after_s(self._finished_s))
        up = self._crew.up
        self._crew.fit(left, len(self.slow()))
        for actor in up:
            self._note(actor)
        self._trust.forget_all_but({actor.worker for actor in self._crew.up if actor.worker})

    def _sent_before(self, then_s: float) -> dict[ray.ObjectRef, Flight]:
        return {ref: flight for ref, flight in self._flying.items() if flight.sent_s < then_s}

    def send(self, plan: ShardPlan, alone: bool = False, wary: bool = False) -> bool:
        """Give the plan to the actor with least in hand; False where none is free for it.

        One that is sent `alone` gets an actor with nothing in hand, and no company later: should it
        die, it is plain at what. Nor does an actor get more that has a slow one. What failed waits
        a while for who may do better, even where others are free. Where workers died of it, the
        next is `wary` of its images.
        """
        failed = self._trust.has_failed(plan.shard_id)
        actor = self._who_may_do_better(plan, alone) if failed else self._bench.least(alone)
        if actor is None:
            return False
        ref = actor.handle.extract.remote(plan, wary)
        flight = self._flying[ref] = actor.flights[ref] = Flight(actor, plan, alone)
        self._by_shard.setdefault(plan.shard_id, []).append(flight)
        self._note(actor)
        return True

    def _who_may_do_better(self, plan: ShardPlan, alone: bool) -> Actor | None:
        """Return who is to try what failed. All are looked at, which is for few shards only."""
        up = {actor.worker: actor for actor in self._crew.up if actor.worker is not None}
        coming = self._crew.is_more_coming
        ranks = self._trust.ranks(plan.shard_id, up, coming, time.monotonic())
        able = [(rank, up[worker]) for worker, rank in ranks.items() if self._takes(up[worker])]
        free = [(rank, actor) for rank, actor in able if not (alone and actor.flights)]
        return min(free, key=lambda each: (each[0], len(each[1].flights)), default=(0, None))[1]

    def _takes(self, actor: Actor) -> bool:
        """Return whether an actor gets another plan beside what it has in hand."""
        if not actor.is_up or actor.leaving or len(actor.flights) >= SHARDS_IN_HAND:
            return False
        return not any(flight.alone or ref in self._slow for ref, flight in actor.flights.items())

    def _note(self, actor: Actor) -> None:
        self._bench.note(actor, self._takes(actor))

    def slow(self) -> list[ShardPlan]:
        """Return plans that are out for much longer than is usual."""
        flights = [each for each in self._slow.values() if not each.settled]
        return list({each.plan.shard_id: each.plan for each in flights}.values())

    def end_hung(self) -> Iterator[Answer]:
        """End actors that must be standing still; answer for what they had in hand."""
        for actor in {flight.actor for flight in self._hung.values()}:
            if not actor.flights:  # what was answered for another one was all that it had
                continue
            longest_s = time.monotonic() - min(each.sent_s for each in actor.flights.values())
            most_s = hung_after_s(self._finished_s)
            error = SppError(f"no answer for {longest_s:.0f} s, where {most_s:.0f} s are the most")
            yield from self._bury(actor, error)

    def settle(self, plan: ShardPlan, done: bool = True) -> None:
        """Let go of a plan that has its outcome: another actor that has it works in vain."""
        self._trust.settled(plan.shard_id, done)
        for flight in list(self._by_shard.get(plan.shard_id, ())):
            flight.settled = True
            self._free(flight.actor)

    def _free(self, actor: Actor) -> None:
        """End an actor that is to go, or does nothing but what others have done."""
        if actor.leaving and not actor.flights:
            self._end(actor, "actor_retired", reason=actor.leaving)
        elif actor.flights and all(flight.settled for flight in actor.flights.values()):
            for ref in list(actor.flights):
                self._land(ref)
            self._end(actor, "actor_retired", reason="others did its shards sooner")

    def _end(self, actor: Actor, kind: str, **fields: Any) -> None:
        self._crew.end(actor, kind, **fields)
        self._note(actor)

    def answers(self, ref: ray.ObjectRef) -> Iterator[Answer]:
        """Take note of an answer; yield the plans it settles: none for an actor's start.

        Raises:
            SppError: actors cannot start, because of the recipe or again and again.
        """
        starting = self._crew.started(ref)
        if starting is not None:
            self._note(starting)
        if ref not in self._flying:
            return
        flight = self._flying[ref]
        outcome = outcome_of(ref, flight.plan.shard_id)
        if isinstance(outcome.error, RayError):
            yield from self._bury(flight.actor, outcome.error)
            return
        self._land(ref)
        if outcome.error is None:
            self._finished_s.append(time.monotonic() - flight.sent_s)
        self._judge(flight, outcome.error)
        if not flight.settled:
            yield Answer(flight.plan, outcome)
        self._free(flight.actor)

    def _judge(self, flight: Flight, error: Exception | None) -> None:
        """Trust an actor again that did a shard; let one go that fails shard after shard."""
        actor, worker = flight.actor, flight.actor.worker
        if worker is None:
            return
        if error is None:
            self._trust.did(worker)
        elif may_pass(error) and not flight.settled:
            is_sick = self._trust.failed(flight.plan.shard_id, worker, time.monotonic())
            if is_sick and not actor.leaving:
                last = f"the last said: {type(error).__name__}: {error}"
                self._crew.retire(actor, f"{FAILED_IN_A_ROW} shards failed there in a row; {last}")
                self._note(actor)

    def _land(self, ref: ray.ObjectRef) -> Flight:
        flight = self._flying.pop(ref)
        del flight.actor.flights[ref]
        for late in (self._slow, self._hung):
            late.pop(ref, None)
        others = self._by_shard[flight.plan.shard_id]
        others.remove(flight)
        if not others:
            del self._by_shard[flight.plan.shard_id]
        self._note(flight.actor)
        return flight

    def _bury(self, actor: Actor, error: Exception) -> Iterator[Answer]:
        """Answer for all that a dead actor had in hand."""
        with_machine = is_machine_gone(actor, error)
        ray.kill(actor.handle)  # one that is merely out of reach must not keep its place
        refs = list(actor.flights)
        answered = ray.wait(refs, num_returns=len(refs), timeout=KILLED_S)[0]
        lost: list[tuple[ShardPlan, Outcome]] = []
        settled = 0
        for ref in refs:
            flight = self._land(ref)
            outcome = Outcome(flight.plan.shard_id, error=error)
            if ref in answered:
                outcome = outcome_of(ref, flight.plan.shard_id)
            if flight.settled:
                settled += 1
            elif outcome.error is error or isinstance(outcome.error, RayError):
                lost.append((flight.plan, outcome))
            else:
                yield Answer(flight.plan, outcome)
        self._end(actor, "actor_died", reason=str(error), shards=len(lost))
        suspect = len(lost) + settled == 1
        for plan, outcome in lost:
            yield Answer(plan, outcome, True, suspect, with_machine)

    def close(self) -> None:
        """End all actors, and with them what they had in work."""
        self._crew.close()
