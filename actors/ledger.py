"""Which shards wait, which are out, and what is made of each answer. Knows no Ray."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SppError
from pipeline.store import ShardPlan

MANY_LOST = 8  # then there may be memory for one shard at a time, and not for two
# Shards that are done before one that was lost is forgotten. Where memory is short indeed, an
# extractor dies with two more for every 32 shards or so.
FORGET_EVERY = 16
# A shard that brings its machine down each time must end somewhere. Machines of a preemptible
# cluster go by themselves, but more than ten under the same shard are no chance.
MACHINES_LOST = 10
# Shards that are given up, with none done in between: no bad patch of a data set is so long, and
# going on would take the time of all others for nothing.
HOPELESS = 30
# While so many wait for another try, no others are begun: what is broken may be broken for all.
FAILED_AT_ONCE = 16

OnEvent = Callable[..., None]
"""Called with the kind of event, and its fields by name."""


def ignore(kind: str, **fields: Any) -> None:
    """Take note of no event."""


@dataclass(frozen=True)
class Outcome:
    """What became of one item: `error` is None where `result` counts."""

    key: str
    result: Any = None
    error: Exception | None = None


def may_pass(error: Exception) -> bool:
    """Return whether another worker may do better: at a full disk, a lost mount, a broken driver.

    What the library refuses, such as an image that changed, it refuses everywhere. A store that
    does not answer may answer others.
    """
    return not isinstance(error, SppError) or isinstance(error, OSError)


@dataclass(frozen=True)
class Answer:
    """What came back for a plan."""

    plan: ShardPlan
    outcome: Outcome
    lost: bool = False
    """No result: its worker died."""
    suspect: bool = False
    """The worker had nothing else in hand. Of two, either may have killed it."""
    with_machine: bool = False
    """The worker died with its machine, or is out of reach."""


class Ledger:
    """Shards on their way to one outcome each."""

    def __init__(
        self, plans: Sequence[ShardPlan], retries: int, on_event: OnEvent = ignore
    ) -> None:
        """Take the plans, each of which is made when it is indexed: there may be 10⁵ of them."""
        self._plans, self._retries, self._on_event = plans, retries, on_event
        self._next = 0
        self._failed: dict[str, ShardPlan] = {}
        """Waits for a worker that may do better, while others go on."""
        self._again: deque[ShardPlan] = deque()
        """Lost with a machine: goes first."""
        self._suspects: deque[ShardPlan] = deque()
        """Lost with a worker: comes after all others, that they are done in peace."""
        self._out: Counter[str] = Counter()
        """Workers that have a shard in hand, by its id."""
        self._deaths: Counter[str] = Counter()
        """Of what was lost with a worker and is not done, how often it was to blame."""
        self._machines: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        """Errors that may have been the worker's."""
        self._lost = self._done = 0
        """Shards lost with workers and not forgotten; done."""
        self._in_vain: list[str] = []
        """Given up since one was done."""
        self._taken: ShardPlan | None = None

    @property
    def waiting(self) -> int:
        """Shards that nobody has in hand."""
        return self._in_line + len(self._failed)

    @property
    def _in_line(self) -> int:
        fresh = len(self._plans) - self._next
        return fresh + len(self._again) + len(self._suspects) + (self._taken is not None)

    @property
    def out(self) -> int:
        """Shards that somebody has in hand."""
        return len(self._out)

    @property
    def left(self) -> int:
        """Shards without an outcome."""
        return self.waiting + self.out

    def failed(self) -> list[tuple[ShardPlan, bool]]:
        """Return the plans that failed, and whether each needs a worker to itself.

        They are not in line: each waits for a worker that may do better, and holds up no other.
        """
        return [(plan, self._is_alone(plan)) for plan in self._failed.values()]

    @property
    def is_next(self) -> bool:
        """Whether there is a plan in line, and sense in giving it out."""
        return self._in_line > 0 and len(self._failed) < FAILED_AT_ONCE

    def next(self) -> tuple[ShardPlan, bool]:
        """Return the plan whose turn it is, and whether it needs a worker to itself.

        The same one until it is `sent`. There may be none: ask `is_next` before.
        """
        if self._taken is None:
            if self._again:
                plan = self._again.popleft()
            elif self._next < len(self._plans):
                plan, self._next = self._plans[self._next], self._next + 1
            else:
                plan = self._suspects.popleft()
            self._taken = plan
        return self._taken, self._is_alone(self._taken)

    def has_killed(self, plan: ShardPlan) -> bool:
        """Return whether workers died while they had the plan in hand, and it is not done."""
        return plan.shard_id in self._deaths

    def _is_alone(self, plan: ShardPlan) -> bool:
        return self.has_killed(plan) or self._lost >= MANY_LOST

    def sent(self, plan: ShardPlan) -> None:
        """Take note that a worker has the plan, perhaps one more."""
        self._out[plan.shard_id] += 1
        self._failed.pop(plan.shard_id, None)
        if self._taken is plan:
            self._taken = None

    def workers(self, plan: ShardPlan) -> int:
        """Return how many have the plan in hand."""
        return self._out[plan.shard_id]

    def answered(self, answer: Answer) -> Outcome | None:
        """Return the shard's outcome, once there is one: the first result, the last failure."""
        name, error = answer.plan.shard_id, answer.outcome.error
        self._out[name] -= 1
        if error is not None:
            self._blame(answer, error)
        if self._out[name] and error is not None:
            return None  # somebody else has it in hand, and may do better
        del self._out[name]
        outcome = answer.outcome
        if error is not None and (answer.lost or may_pass(error)):
            outcome = self._once_more(answer, error)
        if outcome is not None:
            self._settle(outcome)
        return outcome

    def _blame(self, answer: Answer, error: Exception) -> None:
        name = answer.plan.shard_id
        if not answer.lost:
            self._failures[name] += may_pass(error)
        elif answer.with_machine:
            self._machines[name] += 1
        else:
            self._lost += name not in self._deaths
            self._deaths[name] += answer.suspect

    def _once_more(self, answer: Answer, error: Exception) -> Outcome | None:
        name, reason = answer.plan.shard_id, str(error)
        if not answer.lost:
            reason = f"{type(error).__name__}: {reason}"
        deaths, machines, failures = (
            tally[name] for tally in (self._deaths, self._machines, self._failures)
        )
        fields = {"shard_id": name, "deaths": deaths, "machines": machines, "failures": failures}
        if deaths + failures > self._retries or machines > MACHINES_LOST:
            self._in_vain.append(name)
            self._on_event("shard_given_up", **fields, reason=reason)
            given_up = _given_up(deaths, machines, failures, reason) if answer.lost else error
            return Outcome(name, error=given_up)
        if not answer.lost:
            self._failed[name] = answer.plan
        elif name in self._deaths:
            self._suspects.append(answer.plan)
        else:
            self._again.append(answer.plan)
        self._on_event("shard_retried", **fields, reason=reason)
        return None

    def _settle(self, outcome: Outcome) -> None:
        """Forget what was held against the shard; and in time, that others were lost."""
        for tally in (self._deaths, self._machines, self._failures):
            tally.pop(outcome.key, None)
        if outcome.error is None:
            self._done += 1
            self._in_vain.clear()
            self._lost = max(0, self._lost - (self._done % FORGET_EVERY == 0))

    def check(self, outcome: Outcome) -> None:
        """Check that there is sense in going on after this outcome.

        Raises:
            SppError: `HOPELESS` shards failed, whoever tried them, and none was done in between.
        """
        if self.left and len(self._in_vain) >= HOPELESS:
            error = outcome.error
            said = str(error) if isinstance(error, SppError) else f"{type(error).__name__}: {error}"
            raise SppError(
                f"{len(self._in_vain)} shards failed at every try, with none done in between, and "
                f"{self.left} more would be tried: mend that, and run the same command again. They "
                f"are {', '.join(self._in_vain)}; the last said: {said}"
            )


def _given_up(deaths: int, machines: int, failures: int, reason: str) -> SppError:
    if machines > MACHINES_LOST:
        died = f"{machines} machines went while they were at work on it"
    else:
        failed = f", and failed {failures} times" if failures else ""
        died = f"its extractor died {deaths} times at work on it{failed}"
    return SppError(
        f"{died}: look at its images, or lower extractor.max_actors if memory is short. "
        f"Ray says: {reason}"
    )
