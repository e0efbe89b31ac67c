"""A small durable DAG: jobs are data, their folders are named by what made them, done is a record.

    runs/jobs/<job>-<digest>/    the job's output, and done.json once it is whole
    runs/<recipe>/run.json       which folders belong to the last run of this recipe
    runs/<recipe>/whole.json     likewise to the last that came to its end; before.json: to the one
                                 before that

The digest covers the parts of the recipe that the job reads, files outside, and the digests of the
jobs it needs. So recipes that agree up to a point share the work up to there, a changed recipe
never meets an old result, and running again does only what is missing.
"""

import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.progress import Progress
from actors.runner import Runner, Stopped
from jobs import show
from jobs.context import DONE, ERROR, STORE, Context
from jobs.events import EVENTS, Events
from jobs.hold import sole_use
from jobs.job import Job, State, Step
from jobs.outputs import files_of
from jobs.telling import job_told
from pipeline.config import Recipe, digest
from pipeline.errors import RecipeError, SppError
from pipeline.store.files import write_json


def plan(
    jobs: Sequence[Job], recipe: Recipe, runs: Path, known: Mapping[str, Step] | None = None
) -> dict[str, Step]:
    """Return each job with its folder. Reads recipe and fingerprints only; runs nothing.

    Args:
        jobs: each after those it needs.
        recipe: theirs.
        runs: folder of all.
        known: steps that they may need, and that are returned with them.
    """
    steps: dict[str, Step] = dict(known or {})
    for job in jobs:
        made_by = [steps[need].folder.name for need in job.needs]
        kind, read = job.shares or job.name, job.reads(recipe)
        made_from = digest(kind, job.version, read, made_by)
        folder = runs / "jobs" / f"{kind}-{made_from[:16]}"
        steps[job.name] = Step(job, folder, digest(job.version, read))
    return steps


def states(steps: Mapping[str, Step]) -> dict[str, State]:
    """Return how far each job is; those that cannot run before a failed one is mended are blocked.

    Args:
        steps: each after those it needs, as `plan` returns them.
    """
    found: dict[str, State] = {}
    for name, step in steps.items():
        found[name] = step.state
        stuck = {State.failed, State.blocked} & {found[need] for need in step.job.needs}
        if found[name] is State.waiting and stuck:
            found[name] = State.blocked
    return found


def upstream(steps: Mapping[str, Step], targets: Iterable[str]) -> list[str]:
    """Return the targets and everything they need, in an order that can be run."""
    wanted: set[str] = set()
    pending = list(targets)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(steps[name].job.needs)
    return [name for name in steps if name in wanted]


@dataclass
class Report:
    """What an execution did."""

    ran: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)

    @property
    def blames_recipe(self) -> bool:
        """Whether nothing but the recipe is at fault."""
        faults = self.failed.values()
        return bool(faults) and all(isinstance(error, RecipeError) for error in faults)


def execute(
    steps: Mapping[str, Step],
    targets: Iterable[str],
    recipe: Recipe,
    runner: Runner,
    progress: Progress,
    threads: int = 4,
    stores: str | None = None,
) -> Report:
    """Run what is missing; independent jobs at the same time, each failure by itself.

    Args:
        steps: of one recipe.
        targets: which of them are wanted, with all they need.
        recipe: theirs.
        runner: where their work is done.
        progress: where it is told.
        threads: jobs at a time.
        stores: where stores go, if not into the jobs' folders.

    Raises:
        KeyboardInterrupt: after running work was told to stop. What was committed stays.
        Stopped: the runner was told to stop by somebody else.
    """
    order = upstream(steps, targets)
    report = Report()
    waiting = [name for name in order if steps[name].state is not State.done]
    running: dict[Future[dict[str, Any]], str] = {}
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        while waiting or running:
            for name in _ready(steps, waiting, running, report):
                waiting.remove(name)
                inputs = {need: steps[need].folder for need in steps[name].job.needs}
                events = Events((folder := steps[name].folder) / EVENTS)
                given = (events, steps[name].settings, stores)
                context = Context(recipe, runner, folder, inputs, progress, name, *given)
                running[pool.submit(_run, steps[name], context)] = name
            for name in [n for n in waiting if _is_blocked(steps[n].job, report)]:
                waiting.remove(name)
                report.blocked.append(name)
            if running:
                finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                for future in finished:
                    _note(report, steps[running.pop(future)], future, progress)
    except BaseException:
        # Not by `with`, whose end would wait: a second Ctrl-C leaves from any place in here.
        runner.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        progress.note("stopping after the work in hand; Ctrl-C again leaves at once")
        pool.shutdown()
        raise
    pool.shutdown()
    report.blocked.sort(key=order.index)
    return report


def _ready(
    steps: Mapping[str, Step], waiting: Sequence[str], running: Mapping[Any, str], report: Report
) -> list[str]:
    unfinished = {*waiting, *running.values(), *report.failed, *report.blocked}
    return [name for name in waiting if not unfinished & set(steps[name].job.needs)]


def _is_blocked(job: Job, report: Report) -> bool:
    return bool({*report.failed, *report.blocked} & set(job.needs))


def _run(step: Step, context: Context) -> dict[str, Any]:
    step.folder.mkdir(parents=True, exist_ok=True)
    with sole_use(step.folder, context.runner.stop, context.note):
        if step.record is not None:  # by another run, while this one waited for its turn
            return step.record
        (step.folder / ERROR).unlink(missing_ok=True)
        _clear(step.folder)
        start = time.perf_counter()
        with job_told(context):
            summary = step.job.run(context)
        _clear(step.folder)
        record = {
            "job": step.job.name,
            "settings": step.settings,
            "needs": [folder.name for folder in context.inputs.values()],
            "seconds": round(time.perf_counter() - start, 2),
            "summary": summary,
            "files": files_of(step.folder),
        }
        write_json(step.folder / DONE, record)
        told = {"seconds": record["seconds"], "summary": show.headline(summary)}
        context.events.write("job_finished", job=step.job.name, **told)
    return record


def _clear(folder: Path) -> None:
    """Remove what killed runs and killed workers left half-written, aside from the real names.

    A store is looked after by the job that makes it.
    """
    for top in folder.iterdir():
        if top.name != STORE:
            for left_behind in [top, *top.rglob("*.tmp.*")]:
                if ".tmp." in left_behind.name:
                    left_behind.unlink(missing_ok=True)


def _note(report: Report, step: Step, future: Future[dict[str, Any]], progress: Progress) -> None:
    name = step.job.name
    try:
        record = future.result()
    except Stopped:
        raise
    except Exception as error:  # noqa: BLE001 - recorded, and reported by name
        report.failed[name] = error
        text = "".join(traceback.format_exception(error))
        known = isinstance(error, SppError)
        progress.failed(name, str(error))
        with suppress(OSError):  # a full disk may be why the job failed: the others go on
            write_json(
                step.folder / ERROR, {"error": str(error), "known": known, "traceback": text}
            )
        return
    report.ran.append(name)
    progress.finished(name, record["seconds"], show.headline(record["summary"]))
