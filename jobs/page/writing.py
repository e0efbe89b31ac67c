"""The page about a run: what its jobs left behind, gathered for `pipeline.report.page`."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from actors.progress import Progress
from jobs import dag
from jobs.events import EVENTS, read_events
from jobs.job import Step
from jobs.page import classification, detection
from jobs.page.times import times
from jobs.summary import left_out
from jobs.telling import versions
from pipeline import images, index, machine
from pipeline.config import Recipe, digest
from pipeline.errors import InputError
from pipeline.report import page
from pipeline.report.page import differences, per_object
from pipeline.store.files import written_aside
from pipeline.store.manifest import SETTINGS
from pipeline.store.place import place
from pipeline.store.records import from_json

FILE = "report.html"
LONGEST_NAME = 120  # of a file


class Run(NamedTuple):
    """A whole run, and what the page calls it."""

    recipe: Recipe
    planned: Mapping[str, Step]
    name: str

    @property
    def judged(self) -> Mapping[str, Any]:
        """What it came to, as `evaluate` told."""
        return (self.planned["evaluate"].record or {}).get("summary", {})


def page_file(runs: Path, names: Sequence[str]) -> Path:
    """Return where the page about recipes of these names goes."""
    if len(names) == 1:
        return runs / names[0] / FILE
    joined = "-and-".join(names)
    return runs / f"{joined if len(joined) < LONGEST_NAME else digest(joined)[:16]}.html"


def write_page(file: Path, runs: Sequence[Run], progress: Progress) -> None:
    """Write the page about whole runs, beside each other.

    Args:
        file: where to; it appears when it is whole.
        runs: the first is what the others are compared with.
        progress: shows how far pictures of their differences are.

    Raises:
        InputError: they do not compare, or what was kept for the page is damaged.
    """
    pages = [_gather(run) for run in runs]
    page.require_alike(pages)
    for number, run in enumerate(runs[1:], start=1):
        changes = _changes(number, [each.name for each in pages[0].classes], runs[0], run, progress)
        pages[number] = replace(pages[number], changes=changes)
    html = page.render(pages)
    with written_aside(file) as aside:
        aside.write_text(html, encoding="utf-8")


def _gather(run: Run) -> page.RunPage:
    recipe, planned = run.recipe, run.planned
    jobs = dag.upstream(planned, ["evaluate", "report"])
    records = {name: planned[name].record or {} for name in jobs}
    summaries = {name: record.get("summary", {}) for name, record in records.items()}
    of_task = classification if recipe.task == "classification" else detection
    return of_task.run_page(
        recipe,
        summaries,
        planned["report"].folder,
        name=run.name,
        task=recipe.task,
        jobs=times({name: planned[name] for name in jobs}),
        recipe=_fields(recipe),
        made_with=_made_with(recipe, planned, jobs),
        quarantined=[(*key, reason) for key, reason in left_out(summaries).items()],
    )


def _changes(
    number: int, classes: Sequence[str], first: Run, run: Run, progress: Progress
) -> page.Changes:
    """Return what the run of a number on the page found otherwise than the first one."""
    before, now = (per_object.read(each.planned["report"].folder) for each in (first, run))
    found = differences.between(before, now, classes, number)
    listed = first.planned[f"dataset_{first.recipe.roles[-1]}"].folder / "images.parquet"
    try:
        files = index.files(pq.read_table(listed))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(
            f"{listed} cannot be read ({error}): remove its folder, and run the recipe again"
        ) from None
    load = images.loader(files, first.recipe.features.max_pixels)
    with progress.shown(), progress.bar(f"{run.name}: pictures", len(found.image_ids)) as bar:
        return found.drawn(load, bar.advance)


def _fields(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Return a recipe's values as text, by section and field."""
    plain = recipe.model_dump(mode="json")
    told: dict[str, dict[str, str]] = {"": {}}
    for name, value in plain.items():
        if isinstance(value, dict):
            told[name] = {
                field: json.dumps(each, ensure_ascii=False) for field, each in value.items()
            }
        else:
            told[""][name] = json.dumps(value, ensure_ascii=False)
    return told


def _made_with(
    recipe: Recipe, planned: Mapping[str, Step], jobs: Sequence[str]
) -> list[tuple[str, str]]:
    """Return what made the numbers, and what wrote the page."""
    store = planned[f"extract_{recipe.roles[-1]}"].store  # of the images that are judged
    settings = from_json(place(store).read(SETTINGS))
    network = settings.get("network") if isinstance(settings, dict) else None
    begun = [
        event
        for event, _ in read_events(planned["evaluate"].folder / EVENTS)
        if event.get("kind") == "job_started"
    ]
    judged = (begun[-1] if begun else {}).get("versions") or {}
    told = ", ".join(f"{name} {each}" for name, each in judged.items() if each)
    here = ", ".join(f"{name} {each}" for name, each in versions().items() if each)
    machine_ = f"{platform.system()} {platform.machine()}, {machine.cpus()} CPU cores"
    return [
        ("recipe", f"sha256 {digest(recipe)}"),
        ("network", f"sha256 {network}" if network else "not known: its store is gone"),
        ("judged with", told or "was not written down"),
        ("this page", f"{here}, {machine_}"),
        ("jobs", ", ".join(planned[name].folder.name for name in jobs)),
    ]
