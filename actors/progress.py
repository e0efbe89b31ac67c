"""What a person sees while work goes on: a bar for every step, a line for every finished job."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from actors import pace
from pipeline.printable import one_line

LOG_EVERY_S = 30.0  # a log shows life, and stays readable after a day


class Bar(Protocol):
    """Counts the items of one step."""

    def advance(self) -> None:
        """One more is done."""
        ...


class Progress:
    """Bars on a terminal; on a log or a pipe lines that last, and at times how far a step is."""

    def __init__(
        self,
        console: Console | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or Console(stderr=True, highlight=False, emoji=False, quiet=quiet)
        self._clock = clock
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _PaceColumn(),
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
        """Count the items of one step, of which some may be done already.

        Rate and time left are told from what is done from now on.
        """
        step = _Step(title, total, done, self._clock)
        if self._bars.disable:
            yield _LogBar(step, self.note)
            return
        task = self._bars.add_task(title, total=total, completed=done, step=step)
        try:
            yield _TaskBar(step, self._bars, task)
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
        # Not rich's markup: a reason or a file name may hold brackets of its own; and orders to a
        # terminal.
        plain = [one_line(p) if isinstance(p, str) else (one_line(p[0]), p[1]) for p in parts]
        self.console.print(Text.assemble(*plain), soft_wrap=True)


class _Step:
    """How far a step is, and how fast."""

    def __init__(self, title: str, total: int, done: int, clock: Callable[[], float]) -> None:
        self.title, self.total, self.done = title, total, done
        self.clock, self.began_s = clock, clock()
        self._times: deque[float] = deque(maxlen=pace.MOST)

    def advance(self) -> None:
        self.done += 1
        self._times.append(self.clock())

    def pace(self) -> str:
        """Rate and time left, as far as they can be told."""
        rate = pace.per_second(tuple(self._times), self.clock(), self.began_s)
        left_s = pace.left_s(self.done, self.total, rate)
        left = "" if left_s is None else f"{pace.duration(left_s)} left"
        return ", ".join(filter(None, [pace.a_minute(rate), left]))


class _PaceColumn(ProgressColumn):
    """Not rich's own: that forgets after 30 s, and a shard may take minutes."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["step"].pace())


class _TaskBar:
    def __init__(self, step: _Step, bars: RichProgress, task: TaskID) -> None:
        self._step, self._bars, self._task = step, bars, task

    def advance(self) -> None:
        """One more is done."""
        self._step.advance()
        self._bars.advance(self._task)


class _LogBar:
    """Says at most every `LOG_EVERY_S` how far the step is; of a short one, nothing."""

    def __init__(self, step: _Step, say: Callable[[str], None]) -> None:
        self._step, self._say, self._said_s = step, say, step.began_s

    def advance(self) -> None:
        """One more is done."""
        step = self._step
        step.advance()
        if step.clock() >= self._said_s + LOG_EVERY_S and step.done < step.total:
            self._said_s = step.clock()
            told = f"{step.title} {step.done:,} of {step.total:,}"
            self._say(", ".join(filter(None, [told, step.pace()])))
