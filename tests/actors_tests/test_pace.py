"""Rates and times left that can be told by hand."""

import pytest

from actors import pace

EVENING = [0.0, 30.0, 60.0, 90.0]
MORNING = [36_000.0, 36_020.0, 36_040.0]


@pytest.mark.parametrize(
    ("done", "now", "expected"),
    [
        ([], 100, None),
        ([50], 100, None),  # it only starts the watch
        ([50, 70], 100, 1 / 50),
        (EVENING, 120, 3 / 120),
        ([60, 0, 90, 30], 120, 3 / 120),
        ([0, 300, 600, 900], 1200, 3 / 1200),  # slow, and yet no pause
        ([100, 130, 160], 50, 2 / 60),  # the clock was set back: the last one is now
        ([5, 5, 5], 5, None),  # all at once: no time to divide by
    ],
)
def test_a_rate_is_what_was_done_since_the_first_by_the_time_since(
    done: list[float], now: float, expected: float | None
) -> None:
    assert pace.per_second(done, now) == expected


@pytest.mark.parametrize(
    ("done", "now", "since", "expected"),
    [
        ([], 100, 40, None),
        ([70], 100, 40, 1 / 60),
        (EVENING, 120, -30, 4 / 150),
        (EVENING, 120, 30, 2 / 90),  # of the run before: 0 and 30
        (EVENING, 120, 500, None),  # the clock of the records is behind
    ],
)
def test_from_a_known_beginning_the_first_one_counts_too(
    done: list[float], now: float, since: float, expected: float | None
) -> None:
    assert pace.per_second(done, now, since) == expected


def test_what_was_before_a_pause_tells_nothing_of_after() -> None:
    assert pace.per_second([*EVENING, *MORNING], 36_050) == 2 / 50
    assert pace.per_second([*EVENING, MORNING[0]], 36_050) is None
    # The machine slept, and the run did not notice.
    assert pace.per_second([*EVENING, *MORNING], 36_050, since_s=-30) == 2 / 50


def test_when_nothing_is_done_for_long_no_rate_is_told() -> None:
    assert pace.per_second(EVENING, 90 + 300) == 3 / 390  # ten usual gaps: may still come
    assert pace.per_second(EVENING, 90 + 301) is None
    assert pace.per_second([0, 1, 2], 2 + 60) == 2 / 62  # a minute is no pause, however fast
    assert pace.per_second([0, 1, 2], 2 + 61) is None


def test_of_a_long_run_only_the_last_stretch_counts() -> None:
    slow, fast = range(0, 1000, 20), range(1000, 1601, 5)
    assert pace.per_second([*slow, *fast], 1600) == 120 / 600
    assert pace.per_second(range(0, 3000, 100), 2900) == 10 / 1000  # too few in ten minutes


def test_a_hundred_thousand_are_looked_at_from_the_end() -> None:
    often = [second / 100 for second in range(100_000)]
    assert pace.per_second(often, often[-1]) == pytest.approx(100)
    assert pace.per_second(often, often[-1], since_s=-100.0) == pytest.approx(100)


@pytest.mark.parametrize(
    ("done", "total", "rate", "expected"),
    [(3, 17, 0.5, 28), (0, 0, None, 0), (17, 17, None, 0), (19, 17, 0.5, 0), (3, 17, None, None)],
)
def test_time_left(done: int, total: int, rate: float | None, expected: float | None) -> None:
    assert pace.left_s(done, total, rate) == expected
