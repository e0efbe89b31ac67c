"""Each shard has one outcome, whatever its workers do; plans are made one by one."""

from collections.abc import Sequence
from typing import Any

import pytest

from actors.ledger import (
    FAILED_AT_ONCE,
    FORGET_EVERY,
    HOPELESS,
    MACHINES_LOST,
    MANY_LOST,
    Answer,
    Ledger,
    Outcome,
    ignore,
)
from actors.runner import give_out
from pipeline.errors import InputError, SppError, UnreachableError
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


def failed(plan: ShardPlan, error: Exception | None = None) -> Answer:
    return Answer(plan, Outcome(plan.shard_id, error=error or OSError("disk")))


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


def again(ledger: Ledger) -> ShardPlan:
    ((plan, _),) = ledger.failed()
    ledger.sent(plan)
    return plan


def test_what_failed_holds_up_no_other() -> None:
    events: list[dict[str, Any]] = []
    ledger = Ledger(Lazy(3), 2, lambda _, **fields: events.append(fields))
    plan = take(ledger)
    assert ledger.answered(failed(plan)) is None
    assert (ledger.failed(), ledger.waiting) == ([(plan, False)], 3)
    assert ledger.next()[0].shard_id == "1"
    assert again(ledger) is plan
    assert (ledger.failed(), ledger.waiting, ledger.out) == ([], 2, 1)
    (told,) = events
    assert (told["failures"], told["deaths"], told["reason"]) == (1, 0, "OSError: disk")


class Picky:
    """A pool whose workers are all free, and have all failed the first shard."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, plan: ShardPlan, alone: bool = False, wary: bool = False) -> bool:
        assert not wary  # nobody died
        del alone
        self.sent += [] if plan.shard_id == "0" else [plan.shard_id]
        return plan.shard_id != "0"

    def slow(self) -> list[ShardPlan]:
        return []


def test_others_are_given_out_while_what_failed_waits() -> None:
    ledger, pool = Ledger(Lazy(4), 2), Picky()
    ledger.answered(failed(take(ledger)))
    give_out(ledger, pool, ignore)  # type: ignore[arg-type]
    assert (pool.sent, ledger.waiting, ledger.out) == (["1", "2", "3"], 1, 3)


def test_while_many_failed_no_others_are_begun() -> None:
    ledger = Ledger(Lazy(FAILED_AT_ONCE + 1), 2)
    for _ in range(FAILED_AT_ONCE):
        assert ledger.is_next
        ledger.answered(failed(take(ledger)))
    assert (ledger.is_next, ledger.waiting) == (False, FAILED_AT_ONCE + 1)
    ledger.sent(ledger.failed()[0][0])
    assert ledger.is_next


def test_what_fails_again_and_again_ends_with_its_own_error() -> None:
    ledger = Ledger(Lazy(1), 2)
    assert ledger.answered(failed(take(ledger))) is None
    assert ledger.answered(failed(again(ledger))) is None
    outcome = ledger.answered(failed(again(ledger), ZeroDivisionError("seven")))
    assert isinstance(outcome and outcome.error, ZeroDivisionError)
    assert ledger.left == 0


def test_deaths_and_failures_count_together() -> None:
    ledger = Ledger(Lazy(1), 1)
    assert ledger.answered(failed(take(ledger))) is None
    outcome = ledger.answered(died(again(ledger)))
    assert "died 1 times at work on it, and failed 1 times" in str(outcome and outcome.error)


def test_what_the_library_refuses_is_not_tried_again_and_a_store_that_is_away_is() -> None:
    ledger = Ledger(Lazy(2), 2)
    outcome = ledger.answered(failed(take(ledger), InputError("image 7")))
    assert isinstance(outcome and outcome.error, InputError)
    assert ledger.answered(failed(take(ledger), UnreachableError("503"))) is None


def test_so_many_failures_without_a_shard_done_end_the_run() -> None:
    ledger = Ledger(Lazy(2 * HOPELESS + 2), 0)
    for _ in range(HOPELESS - 1):
        outcome = ledger.answered(failed(take(ledger)))
        assert outcome is not None
        ledger.check(outcome)
    ledger.answered(done(take(ledger)))  # there is hope
    outcome = Outcome("")
    for _ in range(HOPELESS):
        ledger.check(outcome)
        outcome = ledger.answered(failed(take(ledger))) or outcome
    with pytest.raises(
        SppError, match=rf"{HOPELESS} shards .* and 2 more .* are \d+, .*: OSError: disk"
    ):
        ledger.check(outcome)


def test_what_the_library_refuses_does_not_end_the_run() -> None:
    ledger = Ledger(Lazy(2 * HOPELESS), 0)
    for _ in range(2 * HOPELESS - 1):
        outcome = ledger.answered(failed(take(ledger), InputError("image 7")))
        assert outcome is not None
        ledger.check(outcome)


def test_shards_that_are_done_make_lost_ones_forgotten() -> None:
    ledger = Ledger(Lazy(MANY_LOST + 2 * FORGET_EVERY), 2)
    for plan in [take(ledger) for _ in range(MANY_LOST)]:
        ledger.answered(died(plan, suspect=False))
    for _ in range(FORGET_EVERY - 1):
        ledger.answered(done(take(ledger)))
    assert ledger.next()[1] is True
    ledger.answered(done(take(ledger)))
    assert ledger.next()[1] is False  # of eight that were lost, one is forgotten
    order = []
    while ledger.waiting:
        plan, alone = ledger.next()
        order.append((plan.shard_id, alone))
        ledger.sent(plan)
    assert order[-MANY_LOST:] == [(str(number), True) for number in range(MANY_LOST)]


def test_nothing_is_kept_of_shards_that_have_their_outcome() -> None:
    ledger = Ledger(Lazy(3), 2)
    for fate in (died(take(ledger)), failed(take(ledger)), died(take(ledger), with_machine=True)):
        ledger.answered(fate)
    tallies = (ledger._deaths, ledger._failures, ledger._machines)
    assert [len(tally) for tally in tallies] == [1, 1, 1]
    ledger.answered(done(again(ledger)))
    while ledger.left:
        ledger.answered(done(take(ledger)))
    assert [len(tally) for tally in tallies] == [0, 0, 0]


def test_one_that_is_lost_again_and_again_is_not_many() -> None:
    ledger = Ledger(Lazy(2), MANY_LOST)
    plan = take(ledger)
    other = take(ledger)
    for _ in range(MANY_LOST):
        ledger.answered(died(plan))
        assert take(ledger) is plan
    ledger.answered(failed(other))
    assert ledger.failed() == [(other, False)]


def test_where_many_were_lost_all_go_alone() -> None:
    ledger = Ledger(Lazy(MANY_LOST + 1), 2)
    for plan in [take(ledger) for _ in range(MANY_LOST)]:
        assert ledger.next()[1] is False
        ledger.answered(died(plan, suspect=False))
    assert ledger.next()[0].shard_id == str(MANY_LOST)  # never lost
    assert ledger.next()[1] is True
