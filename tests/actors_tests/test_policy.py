"""The numbers by which a pool grows, shrinks and loses patience."""

import math

import pytest

from actors import policy


@pytest.mark.parametrize(
    ("left", "slow", "room", "least", "most", "expected"),
    [
        (100, 0, 7, 1, None, 7),  # as many as there is room for
        (100, 0, 7, 1, 5, 5),  # or may be
        (3, 0, 7, 1, None, 3),  # or have something to do
        (3, 2, 7, 1, None, 5),  # and one more for each slow one
        (100, 0, 2, 5, None, 5),  # asked for without room: an autoscaler sees it
        (2, 0, 0, 5, None, 2),
        (0, 0, 7, 5, None, 0),
    ],
)
def test_how_many_are_wanted(
    left: int, slow: int, room: int, least: int, most: int | None, expected: int
) -> None:
    assert policy.wanted(left, slow, room, least, most) == expected


@pytest.mark.parametrize(
    ("placed", "placing", "free", "grows", "expected"),
    [
        (5, 0, 3, False, 8),
        (5, 2, 0, False, 7),  # two may have got what was free
        (5, 2, 3, False, 8),  # two of the three that are asked for already
        (0, 0, 0, True, 1),  # one that waits is what an autoscaler acts on
        (5, 0, 3, True, 9),
        (5, 4, 3, True, 9),  # which does not add up while they wait
        (11, 0, 0, True, 13),  # 11 // 4
    ],
)
def test_how_many_there_is_room_for(
    placed: int, placing: int, free: int, grows: bool, expected: int
) -> None:
    assert policy.room(placed, placing, free, grows) == expected


def test_pools_that_start_one_after_the_other_leave_a_cpu_for_their_tasks() -> None:
    # Seven CPUs. The first takes three, of which each needs one of the other four.
    assert policy.with_cpus_beside(7, placed=0, cpus=1, cpus_beside=1) == 3
    assert policy.with_cpus_beside(4, placed=3, cpus=1, cpus_beside=1) == 0
    # The second one sees four free, takes two, and then none.
    assert policy.with_cpus_beside(4, placed=0, cpus=1, cpus_beside=1) == 2
    assert policy.with_cpus_beside(2, placed=2, cpus=1, cpus_beside=1) == 0
    assert policy.with_cpus_beside(1, placed=3, cpus=1, cpus_beside=1) == 0  # not less than none
    assert policy.with_cpus_beside(11, placed=1, cpus=3, cpus_beside=1) == 2


def test_a_cap_holds_for_a_while_and_then_for_twice_as_long() -> None:
    cap, machines = policy.Cap(), {"m", "n"}
    assert cap.limits(5, None, machines, 0.0) == (5, None)
    cap.set(3, machines, 1000.0)
    assert cap.limits(5, None, machines, 1299.0) == (3, 3)
    assert cap.limits(1, 2, machines, 1299.0) == (1, 2)
    assert cap.limits(5, 7, machines, 1300.0) == (4, 4)  # one more is tried
    cap.set(3, machines, 2000.0)
    assert cap.limits(5, 7, machines, 2599.0) == (3, 3)
    assert cap.limits(5, 7, machines, 2600.0) == (4, 4)
    cap.started(3)
    assert cap.limits(5, 7, machines, 2600.0) == (4, 4)
    cap.started(4)  # it can be done: the next one at once
    assert cap.limits(5, 7, machines, 2600.0) == (5, 5)
    cap.set(4, machines, 3000.0)
    assert cap.limits(5, 7, machines, 3299.0) == (4, 4)
    assert cap.limits(5, 7, machines, 3300.0) == (5, 5)


def test_a_machine_that_comes_lifts_a_cap_and_one_that_goes_does_not() -> None:
    cap = policy.Cap()
    assert not cap.holds({"m", "n"})
    cap.set(3, {"m", "n"}, 1000.0)
    assert [cap.holds(each) for each in ({"m", "n"}, {"m"}, {"m", "o"})] == [True, True, False]
    assert cap.limits(5, None, {"m"}, 1001.0) == (3, 3)
    assert cap.limits(5, None, {"m", "o"}, 1002.0) == (5, None)
    assert cap.limits(5, None, {"m"}, 1003.0) == (3, 3)  # what was new is gone


@pytest.mark.parametrize(
    ("free", "asked", "expected"),
    [
        ({"CPU": 7.0}, {"CPU": 2}, 3),
        ({"CPU": 7.0, "GPU": 1.0}, {"CPU": 2, "GPU": 0.5}, 2),
        ({"CPU": 16.0, "GPU": 1.0}, {"CPU": 1, "GPU": 0.1}, 10),  # 1.0 // 0.1 is 9
        ({"CPU": 7.0}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 7.0, "memory": 11e9}, {"CPU": 1, "memory": 4_000_000_000}, 2),
    ],
)
def test_how_many_fit(free: dict[str, float], asked: dict[str, float], expected: int) -> None:
    assert policy.fits(free, asked) == expected


def test_patience_is_a_multiple_of_the_usual_time_and_some_seconds() -> None:
    assert policy.slow_after_s([11.0, 700.0, 13.0]) == 39  # three times 13
    assert policy.hung_after_s([11.0, 700.0, 53.0]) == 1060  # 20 times 53
    little = [0.1] * 3  # half a minute, and a quarter of an hour
    assert (policy.slow_after_s(little), policy.hung_after_s(little)) == (30, 900)


def test_the_first_that_is_done_tells_who_is_slow_and_not_yet_who_stands_still() -> None:
    assert (policy.slow_after_s([13.0]), policy.hung_after_s([13.0])) == (39, 3600)
    assert policy.hung_after_s([13.0, 13.0]) == 3600
    assert policy.hung_after_s([191.0]) == 3820  # 20 times 191


def test_before_one_is_done_nobody_is_slow_and_who_takes_an_hour_stands_still() -> None:
    assert (policy.slow_after_s([]), policy.hung_after_s([])) == (math.inf, 3600)
