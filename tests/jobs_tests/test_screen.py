"""What comes from outside is shown, and gives no orders to a terminal."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.progress import Progress
from jobs import show

ORDERS = "a\x1b]0;owned\x07\x1b[31m\nb\r\x9b2J\u202e"
SHOWN = r"a\x1b]0;owned\x07\x1b[31m\nb\r\x9b2J\u202e"


def test_a_table_shows_what_it_is_told_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_table([ORDERS], [[ORDERS], ["[red]markup[/red]"]])
    said = capsys.readouterr().out
    assert said.count(SHOWN) == 2
    assert "\x1b" not in said
    assert "[red]markup[/red]" in said
    assert len(said.splitlines()) == 3


def test_notes_are_one_line_each() -> None:
    screen = io.StringIO()
    told = Progress(Console(file=screen, highlight=False, width=200))
    told.note(f"quarantined: image {ORDERS}: x")
    told.failed("job", ORDERS)
    told.finished("job", 1.0, ORDERS)
    assert len(screen.getvalue().splitlines()) == 3
    assert screen.getvalue().count(SHOWN) == 3


def test_an_error_is_one_line_of_bounded_length(
    tmp_path: Path, spp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = spp("query", f"{ORDERS}{'x' * 9000}", "SELECT 1")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "\x1b" not in said.err
    assert len(said.err) < 4000


def test_several_lines_of_our_own_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show.say("one\n\ttwo\x07")
    assert capsys.readouterr().out == "one\n\ttwo\\x07\n"
