"""What a person reads is what was said, whatever it holds."""

import io

import pytest
from rich.console import Console

from actors.progress import Progress


class Clock:
    """A clock that moves when told to."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def said(
    terminal: bool = False, clock: Clock | None = None, quiet: bool = False
) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(
        file=text, force_terminal=terminal, width=90, color_system=None, emoji=False, quiet=quiet
    )
    return Progress(console, quiet, clock or Clock()), text


@pytest.mark.parametrize(
    "reason", ["a [/] b", "file [red]x[/red].jpg", "ends in \\", "[0, 1] :car:"]
)
def test_reasons_are_shown_as_they_are(reason: str) -> None:
    progress, text = said()
    progress.failed("train", reason)
    progress.skipped("train", reason)
    progress.finished("train", 1.0, reason)
    progress.note(reason)
    assert [line.endswith(reason) for line in text.getvalue().splitlines()] == [True] * 4


def test_a_long_reason_stays_on_one_line() -> None:
    progress, text = said()
    progress.failed("train", "word " * 40)
    assert text.getvalue().count("\n") == 1


@pytest.mark.parametrize(("terminal", "bars"), [(True, True), (False, False)])
def test_bars_are_for_terminals(terminal: bool, bars: bool) -> None:
    progress, text = said(terminal)
    with progress.shown(), progress.bar("extract: shards", 5, 2) as bar:
        bar.advance()
        progress._bars.refresh()
    assert ("3/5" in text.getvalue()) is bars
    assert bars or text.getvalue() == ""


def test_a_bar_tells_rate_and_time_left_from_what_was_done_while_it_was_shown() -> None:
    clock = Clock()
    progress, text = said(terminal=True, clock=clock)
    with progress.shown(), progress.bar("extract: shards", 20, 10) as bar:
        for seconds in (20, 60):  # longer than rich itself would remember
            clock.now_s += seconds
            bar.advance()
        progress._bars.refresh()
    assert "12/20" in text.getvalue()
    assert "1.5/min, 5 min left" in text.getvalue()  # two in 80 s; eight are left


def test_a_log_shows_life_every_half_minute_and_no_more() -> None:
    clock = Clock()
    progress, text = said(clock=clock)
    with progress.shown(), progress.bar("extract: shards", 1000, 900) as bar:
        for _ in range(100):
            clock.now_s += 1
            bar.advance()
    assert text.getvalue().splitlines() == [
        "extract: shards 930 of 1,000, 60/min, 1 min left",
        "extract: shards 960 of 1,000, 60/min, 40 s left",
        "extract: shards 990 of 1,000, 60/min, 10 s left",
    ]


def test_a_log_says_nothing_of_a_step_that_is_over_soon() -> None:
    clock = Clock()
    progress, text = said(clock=clock)
    for _ in range(9):
        with progress.bar("short", 3) as bar:
            for _ in range(3):
                clock.now_s += 11
                bar.advance()
    assert text.getvalue() == ""  # the third item ends it; its job will say so


def test_quiet_is_quiet() -> None:
    clock = Clock()
    progress, text = said(clock=clock, quiet=True)
    with progress.shown(), progress.bar("extract: shards", 9) as bar:
        clock.now_s += 100
        bar.advance()
    assert text.getvalue() == ""
