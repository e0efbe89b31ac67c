"""What the driver writes into its logs, and when.

runs/jobs/<job>-<digest>/events.jsonl    a job: begun by whom, its shards, its end
runs/<recipe>/events.jsonl               runs of a recipe: begun, ended, interrupted
"""

import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from actors.runner import Stopped
from jobs.context import Context
from jobs.events import Events
from jobs.job_log import JobLog
from pipeline.config import Recipe, digest
from pipeline.extraction import ShardStats
from pipeline.store import Place, committed
from pipeline.store.files import write_json
from pipeline.store.plan import ShardPlans
from pipeline.store.records import read_record

PLAN = "plan.json"


@contextmanager
def run_told(events: Events, recipe: Recipe, targets: Sequence[str]) -> Iterator[None]:
    """Tell that a run begins, and when it is interrupted."""
    events.write("run_started", **_whose_run(recipe), targets=targets)
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        events.write("run_interrupted", pid=os.getpid())
        raise


@contextmanager
def job_told(context: Context) -> Iterator[None]:
    """Tell that a job begins and for which run, and how it ends if not well."""
    events, job = context.events, context.job
    events.write("job_started", job=job, **_whose_run(context.recipe))
    try:
        yield
    except Stopped:
        events.write("run_interrupted", job=job, pid=os.getpid())
        raise
    except Exception as error:
        events.write("job_failed", job=job, error=str(error), error_kind=type(error).__name__)
        raise


def _whose_run(recipe: Recipe) -> dict[str, Any]:
    """Return for what, and where, this process is at work."""
    where = {"host": socket.gethostname(), "pid": os.getpid()}
    known = versions()
    told = {"version": known["sppnet"], "versions": known}
    return {"recipe": recipe.name, "digest": digest(recipe), **told, **where}


@cache
def versions() -> dict[str, str]:
    """Return what this process computes with; empty: it is not installed as a package."""
    found = {"python": platform.python_version()}
    for name in ("sppnet", "torch", "ray", "numpy", "pyarrow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a folder that was sent is not installed
            found[name] = ""
    return found


def write_plan(folder: Path, root: Place, plans: ShardPlans) -> None:
    """Write down what an extraction has to do, and in which store, for those who look on."""
    content = {
        "store": str(root),
        "shards": len(plans),
        "images": len(plans.images),
        **plans.totals,
    }
    write_json(folder / PLAN, content)


class Notes:
    """Writes what becomes of an extraction's workers down, and says what a person should know."""

    def __init__(self, context: Context) -> None:
        self._write, self._note = context.events.write, context.note
        self._told_full = False

    def __call__(self, kind: str, **fields: Any) -> None:
        """Take an event of the runner."""
        self._write(kind, **fields)
        if kind == "waiting_for_room":
            self._note(
                f"{fields['up']} extractors at work, and {fields['waiting']} wait until other jobs "
                f"leave {fields['asked']} for each; the cluster has {fields['cluster']} in all"
            )
        elif kind == "actor_sick":
            self._note(f"extractor {fields['worker']} gets no more work: {fields['reason']}")
        elif kind == "machine_barred":
            minutes = fields["seconds"] / 60
            self._note(f"no more start on {fields['address']} for {minutes:.0f} minutes")

    def decoded_here(self, images: int) -> None:
        """Say, once, that extractors had to decode images that others should."""
        if images and not self._told_full:
            self._told_full = True
            self._note(
                "no CPU is free for decoding, so extractors decode themselves: lower "
                "extractor.max_actors, or let jobs run one after the other"
            )


class ShardLog:
    """Tells of each shard that is committed, also of one whose driver died before it could."""

    def __init__(self, events: Events) -> None:
        self._events = events
        log = JobLog(events.path)
        log.read()
        self.totals = log.totals

    def found(self, root: Place) -> None:
        """Tell of the store's committed shards of which the log knows nothing."""
        unknown = sorted(committed(root) - self.totals.shard_ids)
        for held in root.each(partial(read_record, root), unknown):
            if held is not None:
                done = (len(held.images), held.quarantined)
                stats = ShardStats(held.shard_id, held.rows, held.bytes, *done)
                self.committed(stats, found=True)

    def committed(self, stats: ShardStats, **more: Any) -> None:
        """Tell of one; of a shard that was committed before nothing, if it is known."""
        if not stats.seconds and stats.shard_id in self.totals.shard_ids:
            return
        told = {name: _rounded(value) for name, value in asdict(stats).items()}
        told |= {"quarantined": len(stats.quarantined), **more}
        self.totals.add(told)
        self._events.write("shard_committed", **told)

    def failed(self, shard_id: str, error: Exception) -> None:
        """Tell of one that was given up."""
        self._events.write("shard_failed", shard_id=shard_id, error=str(error))


def _rounded(value: Any) -> Any:
    """Return seconds without the digits that are noise, and other values as they are."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value
