"""What a person reads is what was said, whatever it holds."""

import io

import pytest
from rich.console import Console

from actors.progress import Progress


def said(terminal: bool = False) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=40, color_system=None, emoji=False)
    return Progress(console), text


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
