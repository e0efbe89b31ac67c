"""How far the jobs of a recipe are, from what lies on disk: of runs at work, elsewhere, and dead.

Nothing here asks the driver. What is done is counted from commit records and results, how fast from
the times they were written, whether a run is alive from its hold on the job's folder; the log adds
rows, images and where the time went.
"""

import os
import time
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from actors import pace
from jobs import dag, show
from jobs.context import TASKS
from jobs.events import EVENTS, time_text
from jobs.job import State, Step
from jobs.job_log import JobLog, ShardTotals
from jobs.telling import PLAN
from pipeline.store import commit_times
from pipeline.store.files import read_json
from pipeline.store.place import place

LEFT_TO_DO = (State.running, State.interrupted, State.failed)


class Observer:
    """Looks at the jobs again and again; what their logs said before is not read again."""

    def __init__(self, steps: Mapping[str, Step], usual: Container[str] | None = None) -> None:
        """Look at jobs.

        Args:
            steps: all there are.
            usual: those that are told of before anybody asked for them; None: all.
        """
        self._steps, self._usual = steps, steps if usual is None else usual
        self._logs = {name: JobLog(step.folder / EVENTS) for name, step in steps.items()}

    def rows(self, now_s: float | None = None) -> list[dict[str, Any]]:
        """Return what there is to say of each job, for `spp status` and `--json`.

        Args:
            now_s: seconds since 1970; None: now.
        """
        now_s = time.time() if now_s is None else now_s
        states = dag.states(self._steps)
        return [
            self._row(name, state, now_s)
            for name, state in states.items()
            if name in self._usual or state is not State.waiting
        ]

    def _row(self, name: str, state: State, now_s: float) -> dict[str, Any]:
        step, log = self._steps[name], self._logs[name]
        record, summary = {}, {}
        progress = stages = error = None
        if state is State.done:
            record = step.record or {}
            summary = record.get("summary", {})
            stages = {key: summary[key] for key in _STAGES if key in summary} or None
        elif state in LEFT_TO_DO:
            log.read()
            progress = _progress(step.folder, state, log, now_s)
            stages = log.totals.stages() if log.totals.total_s else None
        if state is State.failed:
            error = (read_json(step.folder / dag.ERROR) or {}).get("error", "")
        seconds = record.get("seconds")
        if state is State.running and log.begun_s is not None:
            seconds = round(max(now_s - log.begun_s, 0.0), 2)
        return {
            "job": name,
            "state": str(state),
            "seconds": seconds,
            "result": show.headline(summary) or error or "",
            "error": error,
            "damage": None,
            "progress": progress,
            "stages": stages,
            "shards_failed": log.failed,
            "workers": log.workers,
            "begun_by": log.begun_by,
            "last_sign": max(filter(None, [log.last, (progress or {}).get("last")]), default=None),
            "summary": summary,
            "folder": str(step.folder),
        }


_STAGES = ("windows_reused", "bound_by", "worker_seconds", "waited_seconds", "worker")


def _progress(folder: Path, state: State, log: JobLog, now_s: float) -> dict[str, Any] | None:
    """Return how far a job is, or None where it does not say what it has to do."""
    plan = read_json(folder / PLAN)
    label, total = ("shards", plan["shards"]) if plan else _tasks(folder)
    if not label:
        return None
    times = commit_times(place(plan["store"])) if plan else _written(folder / TASKS / label)
    since_s = log.begun_s
    if state is not State.running:  # as fast as it was when it ended
        now_s, since_s = max(times, default=now_s), None
    rate = pace.per_second(times, now_s, since_s)
    amounts = _amounts(len(times), plan, log.totals) if plan else {}
    rows = amounts.get("rows")
    return {
        "of": label,
        "done": len(times),
        "total": total,
        **amounts,
        "per_second": rate,
        "rows_per_second": rate * rows / len(times) if rate and rows else None,
        "left_s": pace.left_s(len(times), total, rate),
        "last": time_text(max(times)) if times else None,
    }


def _amounts(done: int, plan: Mapping[str, Any], told: ShardTotals) -> dict[str, Any]:
    """Return rows, images and bytes of the committed shards: as the log has them, or about.

    Where the log lacks shards, for other drivers committed them or it was lost, the others stand
    for them; where it lacks all, the plan does.
    """
    counted, source = len(told.shard_ids), vars(told)
    if not counted:
        counted, source = plan["shards"], plan
    names = ("rows", "images", "bytes")
    share = done / counted if counted else 0
    return {name: round(source[name] * share) for name in names} | {
        "exact": done == len(told.shard_ids)
    }


def _tasks(folder: Path) -> tuple[str, int]:
    """Return the step of tasks that began last, and how many tasks it has; "" where none did."""
    begun = sorted((folder / TASKS).glob("*.json"), key=lambda path: path.stat().st_mtime)
    content = read_json(begun[-1]) if begun else None
    return (begun[-1].stem, content["items"]) if content else ("", 0)


def _written(folder: Path) -> list[float]:
    """Return when each result of a folder was written."""
    try:
        with os.scandir(folder) as entries:
            return [each.stat().st_mtime for each in entries if each.name.endswith(".json")]
    except FileNotFoundError:
        return []
