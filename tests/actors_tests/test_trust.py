"""Failures are held against the worker until another one fails at the same shard."""

from actors.extractor import Worker
from actors.trust import Trust

# Two machines: a and b of one, c of the other.
A, B, C = Worker("m", "10.0.0.2", 11), Worker("m", "10.0.0.2", 13), Worker("n", "10.0.0.3", 17)


def test_a_worker_that_fails_three_in_a_row_is_sick() -> None:
    trust = Trust()
    assert [trust.failed(shard, A) for shard in "stu"] == [False, False, True]


def test_a_shard_that_it_did_clears_a_worker() -> None:
    trust = Trust()
    assert [trust.failed(shard, A) for shard in "st"] == [False, False]
    trust.did(A)
    assert [trust.failed(shard, A) for shard in "uvw"] == [False, False, True]


def test_one_shard_that_fails_again_and_again_is_one() -> None:
    trust = Trust()
    assert not any(trust.failed("s", A) for _ in range(5))


def test_what_others_fail_too_is_held_against_nobody() -> None:
    trust = Trust()
    for shard in "stuvw":
        assert not trust.failed(shard, A)
        assert not trust.failed(shard, C)
    # Nor were the others' failures: both are as if nothing had been.
    assert [trust.failed(shard, A) for shard in "xyz"] == [False, False, True]


def test_another_machine_is_better_then_another_process() -> None:
    trust = Trust()
    assert trust.best("s", [A, B, C]) == [A, B, C]
    trust.failed("s", A)
    assert trust.best("s", [A, B, C]) == [C]
    assert trust.best("s", [A, B]) == [B]
    assert trust.best("s", [A]) == []
    trust.failed("s", C)
    assert trust.best("s", [A, B, C]) == [B]
    trust.settled("s")
    assert trust.best("s", [A, B, C]) == [A, B, C]


def test_a_machine_is_sick_with_its_second_worker() -> None:
    trust = Trust()
    assert [trust.retired(worker) for worker in (A, C, B)] == [False, False, True]
