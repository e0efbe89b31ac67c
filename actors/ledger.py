"""Which shards wait, which are out, and what is made of each answer. Knows no Ray."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SppError
from pipeline.store import ShardPlan

MANY_LOST = 8  # then there may be memory for one shard at a time, and not for two
# A shard that brings its machine down each time must end somewhere. Machines of a preemptible
# cluster go by themselves, but ten under the same shard are no chance.
MACHINES_LOST = 10

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
        """Lost with a machine: goes first."""
        self._suspects: deque[ShardPlan] = deque()
        """Lost with a worker: comes after all others, that they are done in peace."""
        self._out: Counter[str] = Counter()
        """Workers that have a shard in hand, by its id."""
        self._deaths: Counter[str] = Counter()
        """Of what was lost with a worker, how often it was to blame."""
        self._machines: Counter[str] = Counter()
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
        return plan, alone or len(self._deaths) >= MANY_LOST

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
        name = answer.plan.shard_id
        self._out[name] -= 1
        if answer.lost:
            self._blame(answer)
        if self._out[name] and (answer.lost or answer.outcome.error is not None):
            return None  # somebody else has it in hand, and may do better
        del self._out[name]
        if not answer.lost:
            return answer.outcome
        return self._once_more(answer)

    def _blame(self, answer: Answer) -> None:
        if answer.with_machine:
            self._machines[answer.plan.shard_id] += 1
        else:
            self._deaths[answer.plan.shard_id] += answer.suspect

    def _once_more(self, answer: Answer) -> Outcome | None:
        name, reason = answer.plan.shard_id, str(answer.outcome.error)
        deaths, machines = self._deaths[name], self._machines[name]
        fields = {"shard_id": name, "deaths": deaths, "machines": machines, "reason": reason}
        if deaths > self._retries or machines > MACHINES_LOST:
            self._on_event("shard_given_up", **fields)
            return Outcome(name, error=_given_up(deaths, machines, reason))
        (self._again if name not in self._deaths else self._suspects).append(answer.plan)
        self._on_event("shard_retried", **fields)
        return None


def _given_up(deaths: int, machines: int, reason: str) -> SppError:
    if machines > MACHINES_LOST:
        died = f"{machines} machines went while they were at work on it"
    else:
        died = f"its extractor died {deaths} times at work on it"
    return SppError(
        f"{died}: look at its images, or lower extractor.max_actors if memory is short. "
        f"Ray says: {reason}"
    )
