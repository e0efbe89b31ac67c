"""Which shards wait, which are out, and what is made of each answer. Knows no Ray."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SppError
from pipeline.store import ShardPlan

MANY_LOST = 8  # then there may be memory for one shard at a time, and not for two
# Shards that are done before one that was lost is forgotten. Where memory is short indeed, eight
# and then two more in company costs an extractor for every 16 shards or so.
FORGET_EVERY = 16
# A shard that brings its machine down each time must end somewhere. Machines of a preemptible
# cluster go by themselves, but ten under the same shard are no chance.
MACHINES_LOST = 10
# Shards that fail wherever they are tried, with none done in between: no bad patch of a data set is
# so long, and going on would take the time of all others for nothing.
HOPELESS = 30

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
        self._again: deque[ShardPlan] = deque()
        """Failed, or lost with a machine: goes first."""
        self._suspects: deque[ShardPlan] = deque()
        """Lost with a worker: comes after all others, that they are done in peace."""
        self._out: Counter[str] = Counter()
        """Workers that have a shard in hand, by its id."""
        self._deaths: Counter[str] = Counter()
        """Of what was lost with a worker and is not done, how often it was to blame."""
        self._machines: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        """Errors that may have been the worker's."""
        self._lost = self._done = self._in_vain = 0
        """Shards lost with workers and not forgotten; done; given up since one was done."""
        self._taken: tuple[ShardPlan, bool] | None = None

    @property
    def waiting(self) -> int:
        """Shards that nobody has in hand."""
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

    def next(self) -> tuple[ShardPlan, bool]:
        """Return the plan whose turn it is, and whether it needs a worker to itself.

        The same one until it is `sent`. Nothing may be waiting: ask before.
        """
        if self._taken is None:
            if self._again:
                plan = self._again.popleft()
            elif self._next < len(self._plans):
                plan, self._next = self._plans[self._next], self._next + 1
            else:
                plan = self._suspects.popleft()
            self._taken = plan, plan.shard_id in self._deaths
        plan, alone = self._taken
        return plan, alone or self._lost >= MANY_LOST

    def sent(self, plan: ShardPlan) -> None:
        """Take note that a worker has the plan, perhaps one more."""
        self._out[plan.shard_id] += 1
        if self._taken is not None and self._taken[0] is plan:
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
            self._in_vain += 1
            self._on_event("shard_given_up", **fields, reason=reason)
            given_up = _given_up(deaths, machines, failures, reason) if answer.lost else error
            return Outcome(name, error=given_up)
        (self._again if name not in self._deaths else self._suspects).append(answer.plan)
        self._on_event("shard_retried", **fields, reason=reason)
        return None

    def _settle(self, outcome: Outcome) -> None:
        """Forget what was held against the shard; and in time, that others were lost."""
        for tally in (self._deaths, self._machines, self._failures):
            tally.pop(outcome.key, None)
        if outcome.error is None:
            self._done, self._in_vain = self._done + 1, 0
            self._lost = max(0, self._lost - (self._done % FORGET_EVERY == 0))

    def check(self, outcome: Outcome) -> None:
        """Check that there is sense in going on after this outcome.

        Raises:
            SppError: `HOPELESS` shards failed, whoever tried them, and none was done in between.
        """
        if self.left and self._in_vain >= HOPELESS:
            error = outcome.error
            said = str(error) if isinstance(error, SppError) else f"{type(error).__name__}: {error}"
            raise SppError(
                f"{self._in_vain} shards failed one after the other, on all that tried them, and "
                f"{self.left} more would be tried: mend that, and run the same command again. The "
                f"last, {outcome.key}, said: {said}"
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
