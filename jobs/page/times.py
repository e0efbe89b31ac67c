"""When a run's jobs ran, as their logs tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import show
from jobs.context import STORE
from jobs.events import EVENTS, read_events, time_s
from jobs.job import Step
from pipeline.report import page


@dataclass(frozen=True)
class Attempt:
    """A job's way from its beginning to its end, or to the last that was heard of it."""

    begun_s: float
    """In seconds since 1970."""
    ended_s: float
    by: tuple[Any, Any]
    """The run that was at it: its machine and process."""


def attempts(folder: Path) -> list[Attempt]:
    """Return the attempts at a job, as its log tells."""
    found: list[Attempt] = []
    for event, _ in read_events(folder / EVENTS):
        now = time_s(event)
        if now is None:
            continue
        if event.get("kind") == "job_started":
            found.append(Attempt(now, now, (event.get("host"), event.get("pid"))))
        elif found:
            last = found[-1]
            found[-1] = Attempt(last.begun_s, max(now, last.ended_s), last.by)
    return found


def times(steps: Mapping[str, Step]) -> list[page.JobTime]:
    """Return when each job ran, by the run that judged: its machine and process did it.

    Other runs may have done the rest, before or after.

    Args:
        steps: done, each after those it needs; `evaluate` is among them.
    """
    tried = {name: attempts(step.folder) for name, step in steps.items()}
    judged_by = tried["evaluate"][-1].by if tried["evaluate"] else None
    mine = {name: [one for one in held if one.by == judged_by] for name, held in tried.items()}
    begun_s = min((one.begun_s for held in mine.values() for one in held), default=0.0)

    def job_time(name: str, step: Step) -> page.JobTime:
        record = step.record or {}
        summary = record.get("summary", {})
        spent = sum(one.ended_s - one.begun_s for one in tried[name])
        return page.JobTime(
            name,
            tuple(step.job.needs),
            tuple((one.begun_s - begun_s, one.ended_s - one.begun_s) for one in mine[name]),
            seconds=max(float(spent), float(record.get("seconds", 0.0))),
            told=show.headline(summary),
            attempts=max(1, len(tried[name])),
            stages=summary.get("worker_seconds", {}),
            waited=summary.get("waited_seconds", {}),
            bytes=int(summary.get("bytes", 0)) + _left(step.folder),
        )

    return [job_time(name, step) for name, step in steps.items()]


def _left(folder: Path) -> int:
    """Return the bytes that a job left in its folder, beside its store, which counts its own."""
    held = (path for path in folder.glob("*") if path.name != STORE)
    files = (each for path in held for each in (path, *path.rglob("*")))
    return sum(each.stat().st_size for each in files if each.is_file())
