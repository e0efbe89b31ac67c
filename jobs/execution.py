"""Bringing recipes to their targets: what is missing is run, and what came of it is told."""

import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actors import resources
from actors.progress import Progress
from actors.runner import RayRunner, Runner, Stopped
from actors.serial import SerialRunner
from jobs import dag, errors, last_run, page, show, steps
from jobs.events import EVENTS, Events
from jobs.exit_codes import DONE, FAILED, INTERRUPTED, QUARANTINED, USAGE
from jobs.job import State, Step
from jobs.observing import Observer
from jobs.summary import left_out, near, summarise
from jobs.telling import run_told
from pipeline import config
from pipeline.errors import InputError, RecipeError
from pipeline.store.place import place, probe

LOST_SHOWN = 10  # images that could not be read, on a screen


def execute(
    recipes: list[config.Recipe],
    targets: list[tuple[str, ...]],
    runs: Path,
    serial: bool = False,
    address: str | None = None,
    as_json: bool = False,
    stores: str | None = None,
    page_file: Path | None = None,
    beside: Sequence[page.Run] = (),
) -> int:
    """Run what is missing for each recipe's targets, in turn; return the exit code.

    Args:
        recipes: in order; of the first all is told, of the others their figure.
        targets: of each.
        runs: the run directory.
        serial: whether to run in this process.
        address: of the cluster.
        as_json: whether the answer is for programs: nothing is told on the way.
        stores: where stores go.
        page_file: of the page about those that come as far as `report`, which is what is wanted;
            None: a page in `runs`, and the run is none the worse where it cannot be written.
        beside: whole runs that come first on that page.
    """
    runs = runs.resolve()  # workers may start elsewhere
    plans = [dag.plan(steps.jobs_of(recipe), recipe, runs) for recipe in recipes]
    wanted = [
        _Wanted(recipe.name, recipe, each, names)
        for recipe, each, names in zip(recipes, plans, targets, strict=True)
    ]
    shown = [one.run for one in wanted if "report" in one.targets]
    file = page_file or page.page_file(runs, [run.name for run in shown])
    awaited = page.AwaitedPage(shown, file, beside, as_json)

    def begin(one: _Wanted) -> None:
        last_run.write_run(runs, one.recipe, one.planned, one.targets)
        # Where only others' numbers are still wanted, there is something to look at already.
        if "report" not in one.targets and awaited.write() and not as_json:
            show.say(f"all of it, as a page: {near(file)}", err=True)

    with ended_gently():
        try:
            code = _bring(wanted, begin, runs, serial, address, as_json, stores)
            if code in (DONE, QUARANTINED):
                awaited.write()
        except KeyboardInterrupt:
            return _interrupted()
    if code == INTERRUPTED:
        return code
    if as_json:
        show.print_json([row for each in plans for row in Observer(each).rows()])
    elif "evaluate" in targets[0]:
        summarise(recipes, plans, awaited.file, {run.name: run.judged for run in beside})
    elif "errors" in targets[0] and plans[0]["errors"].record is not None:
        show.say((plans[0]["errors"].folder / errors.TOLD).read_text(encoding="utf-8"))
        show.say("errors have no page: spp report judges SVMs on the network's features, with one")
        if "pretrain" in plans[0]:
            show.say(f"how it learnt: {near(plans[0]['pretrain'].folder / 'learning.png')}")
    if awaited.fault:
        show.say(f"no page was written: {awaited.fault}", err=True)
        return code if page_file is None else FAILED
    return code


def execute_suite(
    name: str,
    recipe: config.Recipe,
    planned: dict[str, Step],
    targets: tuple[str, ...],
    runs: Path,
    serial: bool = False,
    address: str | None = None,
    as_json: bool = False,
    stores: str | None = None,
) -> int:
    """Run what is missing of several recipes' jobs in one DAG; return the exit code.

    Args:
        name: of the whole, and of the folder in `runs` that its log goes to.
        recipe: one of them, for the log.
        planned: the jobs.
        targets: of them.
        runs: as for `execute`, and so are the others.
        serial: whether to run in this process.
        address: of the cluster.
        as_json: whether the answer is for programs: nothing is told on the way.
        stores: where stores go.
    """
    wanted = [_Wanted(name, recipe, planned, targets)]
    with ended_gently():
        return _bring(wanted, lambda _: None, runs.resolve(), serial, address, as_json, stores)


@dataclass(frozen=True)
class _Wanted:
    """Jobs, and which of them are wanted."""

    name: str
    recipe: config.Recipe
    planned: dict[str, Step]
    targets: tuple[str, ...]

    @property
    def run(self) -> page.Run:
        """What a page is about."""
        return page.Run(self.recipe, self.planned, self.name)


def _bring(
    wanted: Sequence[_Wanted],
    begin: Callable[[_Wanted], None],
    runs: Path,
    serial: bool,
    address: str | None,
    as_json: bool,
    stores: str | None,
) -> int:
    """Run what is missing, one after the other."""
    progress = Progress(quiet=as_json)
    if stores is not None and "://" not in stores:
        stores = str(Path(stores).resolve())
    for one in wanted:
        recheck(one.planned, one.targets, progress)
    missing = [name for one in wanted for name in one.targets if not _is_done(one.planned, name)]
    if missing:
        _require_writable(runs)
    if missing and stores is not None and (left := probe(place(stores))):
        progress.note(left)
    try:
        runner = SerialRunner() if serial or not missing else open_runner(address)
        codes = []
        for one in wanted:
            begin(one)
            codes.append(_execute_one(one, runs, runner, progress, stores))
    except (KeyboardInterrupt, Stopped):
        return _interrupted()
    return max(codes, key=[DONE, QUARANTINED, USAGE, FAILED].index)


@contextmanager
def ended_gently() -> Iterator[None]:
    """Take SIGTERM, by which systems and clusters end programs, for Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    _take_term()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: not Python's


def _take_term() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _require_writable(runs: Path) -> None:
    """Check that a run may leave something there, before Ray is started for it."""
    way_out = "give another folder with --runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{runs} cannot be made ({error.strerror}): {way_out}") from None
    if not os.access(runs, os.W_OK):
        raise InputError(f"{runs} may not be written to: {way_out}, or the right to write there")


def recheck(planned: Mapping[str, Step], targets: Iterable[str], progress: Progress) -> None:
    """Take back the word of done jobs whose output is not there any more: they run again.

    What was made from it stays, for the same bytes are made again.
    """
    for name in dag.upstream(planned, [target for target in targets if target in planned]):
        problem = planned[name].damage
        if problem is not None:
            progress.note(f"{name}: {problem}. What is missing is made again")
            planned[name].take_back()


def _is_done(planned: dict[str, Step], target: str) -> bool:
    """Return whether a target, and so everything it needs, is done."""
    if target not in planned:
        names = ", ".join(planned)
        raise RecipeError(f"this recipe has no job {target}; it has {names}")
    return all(planned[name].state is State.done for name in dag.upstream(planned, [target]))


def open_runner(address: str | None) -> Runner:
    """Return what runs work on the cluster at an address, or on one started here."""
    resources.connect(address)
    _take_term()  # Ray's own way to take it is to print a trace of its C++, and to abort
    return RayRunner()


def _execute_one(
    one: _Wanted, runs: Path, runner: Runner, progress: Progress, stores: str | None
) -> int:
    recipe, planned, targets = one.recipe, one.planned, one.targets
    progress.heading(one.name)
    for name in dag.upstream(planned, targets):
        record = planned[name].record
        if record is not None:
            progress.skipped(name, show.headline(record["summary"]))
    threads = 1 if isinstance(runner, SerialRunner) else 4
    events = Events(runs / one.name / EVENTS)
    with progress.shown(), run_told(events, recipe, targets):
        report = dag.execute(planned, targets, recipe, runner, progress, threads, stores)
    ended = {"ran": report.ran, "failed": list(report.failed), "blocked": report.blocked}
    events.write("run_finished", **ended, pid=os.getpid())
    if report.failed:
        if report.blocked:
            progress.note(f"not run, for they need it: {', '.join(report.blocked)}")
        return USAGE if report.blames_recipe else FAILED
    if "report" in targets:
        last_run.keep_whole(runs, recipe, planned)
    names = dag.upstream(planned, targets)
    summaries = {name: (planned[name].record or {}).get("summary", {}) for name in names}
    lost = left_out(summaries)
    for (_, image_id), reason in list(lost.items())[:LOST_SHOWN]:
        progress.note(f"quarantined: image {image_id}: {reason}")
    if len(lost) > LOST_SHOWN:
        progress.note(f"quarantined: {len(lost) - LOST_SHOWN:,} more images")
    for name, summary in summaries.items():
        if summary.get("quarantined") and name.startswith("extract_"):
            store = planned[name].store
            shown = shlex.quote(store if "://" in store else str(near(Path(store))))
            progress.note(f"spp quarantine {shown} shows what is left out of it")
    return QUARANTINED if lost else DONE


def _interrupted() -> int:
    """Say how to go on; leave at once where work in hand was not waited for."""
    show.say("interrupted; the same command goes on where this one stopped", err=True)
    main = threading.main_thread()
    if any(each is not main and not each.daemon for each in threading.enumerate()):
        os._exit(INTERRUPTED)  # the interpreter would wait for them; files are whole or absent
    return INTERRUPTED
