"""Each shard has one outcome, whatever its workers do; plans are made one by one."""

from collections.abc import Sequence
from typing import Any

from actors.ledger import MACHINES_LOST, MANY_LOST, Answer, Ledger, Outcome
from pipeline.errors import SppError
from pipeline.store import ShardPlan


class Lazy(Sequence[ShardPlan]):
    """Plans that are made when they are asked for, and count it."""

    def __init__(self, count: int) -> None:
        self._count, self.made = count, 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        assert isinstance(place, int), "a slice copies"
        if not 0 <= place < self._count:
            raise IndexError(place)
        self.made += 1
        return ShardPlan(str(place), (str(place),), 1, 1)


def take(ledger: Ledger) -> ShardPlan:
    plan, _ = ledger.next()
    ledger.sent(plan)
    return plan


def died(plan: ShardPlan, suspect: bool = True, with_machine: bool = False) -> Answer:
    outcome = Outcome(plan.shard_id, error=RuntimeError("it died"))
    return Answer(plan, outcome, True, suspect, with_machine)


def done(plan: ShardPlan, result: str = "done") -> Answer:
    return Answer(plan, Outcome(plan.shard_id, result))


def failed(plan: ShardPlan) -> Answer:
    return Answer(plan, Outcome(plan.shard_id, error=OSError("disk")))


def test_a_plan_is_made_when_its_turn_comes() -> None:
    plans = Lazy(100_000)
    ledger = Ledger(plans, 2)
    assert (ledger.left, ledger.waiting, ledger.out, plans.made) == (100_000, 100_000, 0, 0)
    assert ledger.next()[0] is ledger.next()[0]  # nobody had room for it
    assert (plans.made, ledger.waiting) == (1, 100_000)
    plan = take(ledger)
    assert (ledger.left, ledger.waiting, ledger.out) == (100_000, 99_999, 1)
    assert ledger.answered(done(plan)) == Outcome("0", "done")
    assert (ledger.left, ledger.out) == (99_999, 0)


def test_what_was_lost_with_a_worker_comes_last_and_alone() -> None:
    ledger = Ledger(Lazy(3), 2)
    assert ledger.answered(died(take(ledger))) is None
    order = []
    while ledger.waiting:
        plan, alone = ledger.next()
        order.append((plan.shard_id, alone))
        ledger.sent(plan)
    assert order == [("1", False), ("2", False), ("0", True)]


def test_what_was_lost_with_a_machine_comes_next_and_is_not_to_blame() -> None:
    ledger = Ledger(Lazy(3), 0)
    assert ledger.answered(died(take(ledger), with_machine=True)) is None
    assert ledger.next()[0].shard_id == "0"
    assert ledger.next()[1] is False


def test_a_shard_that_kills_its_workers_is_given_up() -> None:
    events: list[str] = []
    ledger = Ledger(Lazy(1), 1, lambda kind, **_: events.append(kind))
    assert ledger.answered(died(take(ledger), suspect=False)) is None  # perhaps another one did
    assert ledger.answered(died(take(ledger))) is None
    outcome = ledger.answered(died(take(ledger)))
    assert outcome is not None
    assert isinstance(outcome.error, SppError)
    assert "died 2 times" in str(outcome.error)
    assert ledger.left == 0
    assert events == ["shard_retried", "shard_retried", "shard_given_up"]


def test_a_shard_that_takes_machines_down_is_given_up_too() -> None:
    ledger = Ledger(Lazy(1), 0)
    for _ in range(MACHINES_LOST):
        assert ledger.answered(died(take(ledger), with_machine=True)) is None
    outcome = ledger.answered(died(take(ledger), with_machine=True))
    assert outcome is not None
    assert "11 machines went" in str(outcome.error)


def test_the_first_result_of_two_counts() -> None:
    ledger = Ledger(Lazy(1), 0)
    plan = take(ledger)
    ledger.sent(plan)
    assert (ledger.workers(plan), ledger.out) == (2, 1)
    assert ledger.answered(done(plan, "first")) == Outcome("0", "first")
    assert ledger.left == 0


def test_the_last_failure_of_two_counts() -> None:
    for first in (died, failed):
        ledger = Ledger(Lazy(1), 1)
        plan = take(ledger)
        ledger.sent(plan)
        assert ledger.answered(first(plan)) is None
        assert ledger.left == 1
        outcome = ledger.answered(failed(plan))
        assert isinstance(outcome and outcome.error, OSError)


def test_where_many_were_lost_all_go_alone() -> None:
    ledger = Ledger(Lazy(MANY_LOST + 1), 2)
    for plan in [take(ledger) for _ in range(MANY_LOST)]:
        assert ledger.next()[1] is False
        ledger.answered(died(plan, suspect=False))
    assert ledger.next()[0].shard_id == str(MANY_LOST)  # never lost
    assert ledger.next()[1] is True
