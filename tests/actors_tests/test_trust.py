"""Failures are held against the worker until another one fails at the same shard."""

from actors.trust import BARRED_S, PATIENCE_S, PAUSES_S, Bars, Trust
from actors.worker import Worker

# Two machines: a and b of one, c of the other.
A, B, C = Worker("m", "10.0.0.2", 11), Worker("m", "10.0.0.2", 13), Worker("n", "10.0.0.3", 17)


def test_a_worker_that_fails_three_in_a_row_is_sick() -> None:
    trust = Trust()
    assert [trust.failed(shard, A, 0.0) for shard in "stu"] == [False, False, True]


def test_a_shard_that_it_did_clears_a_worker() -> None:
    trust = Trust()
    assert [trust.failed(shard, A, 0.0) for shard in "st"] == [False, False]
    trust.did(A)
    assert [trust.failed(shard, A, 0.0) for shard in "uvw"] == [False, False, True]


def test_one_shard_that_fails_again_and_again_is_one() -> None:
    trust = Trust()
    assert not any(trust.failed("s", A, 0.0) for _ in range(5))


def test_what_nobody_could_do_is_held_against_nobody() -> None:
    trust = Trust()
    for shard in "stuvw":
        assert not trust.failed(shard, A, 0.0)
        trust.settled(shard, done=False)
    assert [trust.failed(shard, A, 0.0) for shard in "xy"] == [False, False]
    trust.settled("x", done=True)  # somebody else did: that is held against it
    assert trust.failed("z", A, 0.0)


def test_workers_that_are_gone_are_forgotten() -> None:
    trust = Trust()
    assert [trust.failed(shard, A, 0.0) for shard in "st"] == [False, False]
    trust.forget_all_but([B, C])  # a new process may get the old one's number
    assert [trust.failed(shard, A, 0.0) for shard in "uv"] == [False, False]


def test_what_others_fail_too_is_held_against_nobody() -> None:
    trust = Trust()
    for shard in "stuvw":
        assert not trust.failed(shard, A, 0.0)
        assert not trust.failed(shard, C, 0.0)
    # Nor were the others' failures: both are as if nothing had been.
    assert [trust.failed(shard, A, 0.0) for shard in "xyz"] == [False, False, True]


def test_another_machine_is_better_then_another_process() -> None:
    trust, soon = Trust(), PAUSES_S[0]
    assert trust.ranks("s", [A, B, C], False, 0.0) == {A: 0, B: 0, C: 0}
    trust.failed("s", A, 0.0)
    assert trust.ranks("s", [A, B, C], False, soon) == {C: 0}
    assert trust.ranks("s", [A, B], False, soon) == {B: 1}
    assert trust.ranks("s", [A], False, soon) == {A: 2}  # what was broken may have passed
    trust.failed("s", C, 0.0)
    assert trust.ranks("s", [A, B, C], False, PAUSES_S[1]) == {B: 1}
    trust.settled("s", done=True)
    assert trust.ranks("s", [A, B, C], False, 0.0) == {A: 0, B: 0, C: 0}


def test_nobody_tries_before_the_pause_is_over() -> None:
    trust = Trust()
    for number, pause_s in enumerate((*PAUSES_S, PAUSES_S[-1])):
        trust.failed("s", A, 1000.0 * number)
        assert trust.ranks("s", [B], False, 1000.0 * number + pause_s - 0.1) == {}
        assert trust.ranks("s", [B], False, 1000.0 * number + pause_s) == {B: 1}


def test_a_shard_waits_for_better_workers_for_a_minute_and_not_for_ever() -> None:
    trust, soon = Trust(), PAUSES_S[0]
    trust.failed("s", A, 0.0)
    assert trust.ranks("s", [A], True, soon) == {}  # one is on its way
    late = soon + PATIENCE_S
    assert trust.ranks("s", [A], True, late - 0.1) == {}
    assert trust.ranks("s", [A], True, late) == {A: 2}
    assert trust.ranks("s", [A, B, C], True, late) == {A: 2, B: 1, C: 0}


def test_a_machine_is_left_alone_for_a_while_after_its_second_sick_worker() -> None:
    bars = Bars()
    assert [bars.blame(machine, 0.0) for machine in "mnm"] == [0.0, 0.0, BARRED_S]
    assert (bars.machines(BARRED_S - 1), bars.machines(BARRED_S)) == ({"m"}, set())
    assert bars.blame("m", 1000.0) == 2 * BARRED_S
    assert bars.machines(1000.0 + 2 * BARRED_S - 1) == {"m"}
    bars.lift()
    assert bars.machines(1000.0) == set()
