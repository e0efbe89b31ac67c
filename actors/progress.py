"""What a person sees while work goes on: a bar for every step, a line for every finished job."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text


class Bar(Protocol):
    """Counts the items of one step."""

    def advance(self) -> None:
        """One more is done."""
        ...


class Progress:
    """Bars on a terminal; on a log or a pipe, only the lines that last."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False, emoji=False, quiet=quiet)
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bars for as long as the block runs."""
        with self._bars:
            yield

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[Bar]:
        """Count the items of one step, of which some may be done already."""
        task = self._bars.add_task(title, total=total, completed=done)
        try:
            yield _TaskBar(self._bars, task)
        finally:
            self._bars.remove_task(task)

    def heading(self, text: str) -> None:
        """Say whose jobs follow."""
        self._line((text, "bold"))

    def finished(self, job: str, seconds: float, summary: str) -> None:
        """Say that a job is done."""
        self._line(("✓", "green"), f" {job:<14} {seconds:7.1f} s   {summary}")

    def skipped(self, job: str, summary: str) -> None:
        """Say that a job was done before."""
        self._line((f"· {job:<14}    done   {summary}", "dim"))

    def failed(self, job: str, reason: str) -> None:
        """Say that a job failed, and why."""
        self._line((f"✗ {job}", "red"), f": {reason}")

    def note(self, text: str) -> None:
        """Say something else that should last."""
        self._line(text)

    def _line(self, *parts: str | tuple[str, str]) -> None:
        # Not rich's markup: a reason or a file name may hold brackets of its own.
        self.console.print(Text.assemble(*parts), soft_wrap=True)


class _TaskBar:
    def __init__(self, bars: RichProgress, task: "int") -> None:  # rich's TaskID is an int
        self._bars, self._task = bars, task

    def advance(self) -> None:
        """One more is done."""
        self._bars.advance(self._task)  # pyright: ignore[reportArgumentType]
