"""The page about a run: what its jobs left behind, gathered for `pipeline.report.page`."""

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import dag, paper, show
from jobs.events import EVENTS, read_events, time_s
from jobs.job import Step
from jobs.summary import left_out
from jobs.telling import versions
from pipeline import machine
from pipeline.config import Recipe, digest
from pipeline.report import page
from pipeline.report.page import results
from pipeline.report.page.time_charts import seconds
from pipeline.report.tables import percent
from pipeline.store.files import written_aside
from pipeline.store.manifest import SETTINGS
from pipeline.store.place import place
from pipeline.store.records import from_json

FILE = "report.html"
LONGEST_NAME = 120  # of a file


def page_file(runs: Path, names: Sequence[str]) -> Path:
    """Return where the page about recipes of these names goes."""
    if len(names) == 1:
        return runs / names[0] / FILE
    joined = "-and-".join(names)
    return runs / f"{joined if len(joined) < LONGEST_NAME else digest(joined)[:16]}.html"


def write_page(file: Path, runs: Sequence[tuple[Recipe, Mapping[str, Step]]]) -> None:
    """Write the page about finished runs of detection, beside each other.

    Args:
        file: where to; it appears when it is whole.
        runs: recipes with their jobs.

    Raises:
        InputError: they have different classes, or what was kept for the page is damaged.
    """
    html = page.render([_gather(recipe, planned) for recipe, planned in runs])
    with written_aside(file) as aside:
        aside.write_text(html, encoding="utf-8")


def _gather(recipe: Recipe, planned: Mapping[str, Step]) -> page.RunPage:
    jobs = dag.upstream(planned, ["evaluate", "report"])
    records = {name: planned[name].record or {} for name in jobs}
    summaries = {name: record.get("summary", {}) for name, record in records.items()}
    told = results.read(planned["report"].folder)
    timed = times({name: planned[name] for name in jobs})
    evaluation = recipe.evaluation
    reference, reference_name = paper.reference(recipe, [each.name for each in told.classes])
    return page.RunPage(
        name=recipe.name,
        task=recipe.task,
        figures=_figures(summaries, timed),
        measure=f"Average precision in percent, {evaluation.method}, IoU ≥ {evaluation.iou:g}; "
        f"{summaries['dataset_test']['images']:,} test images.",
        classes=told.classes,
        mean_ap=told.mean_ap,
        charts=[told.recall, *learning(summaries)],
        jobs=timed,
        galleries=told.galleries,
        recipe=_fields(recipe),
        made_with=_made_with(recipe, planned, jobs),
        quarantined=[(*key, reason) for key, reason in left_out(summaries).items()],
        unopened=told.unopened,
        reference=reference,
        reference_name=reference_name,
    )


def _figures(
    summaries: Mapping[str, Mapping[str, Any]], timed: Sequence[page.JobTime]
) -> list[page.Figure]:
    judged, recall = summaries["evaluate"], summaries["windows_test"]["recall_at_0.5"]
    total = sum(each.seconds for each in timed)
    return [
        page.Figure(percent(results.share(judged["mAP"])), "mean AP", "in percent"),
        page.Figure(percent(results.share(judged["AP_coco"])), "COCO AP", "IoU 0.50 to 0.95"),
        speed([each for name, each in summaries.items() if name.startswith("extract_")]),
        page.Figure(percent(results.share(recall)), "window recall", "at IoU 0.5, in percent"),
        page.Figure(seconds(total), "work in all", "of all jobs and attempts, added up"),
    ]


def speed(stores: Sequence[Mapping[str, Any]]) -> page.Figure:
    """Return the speed of a worker that extracts.

    Not of jobs: two at the same time slow each other, and one that was gone on with knows its last
    part only.

    Args:
        stores: summaries of extractions.
    """
    images, rows = (sum(each.get(what, 0) for each in stores) for what in ("images", "rows"))
    spent = sum(
        each["images"] * (each.get("worker", {}).get("seconds_per_image") or math.inf)
        for each in stores
    )
    rate = f"{images / spent:,.1f}" if 0 < spent < math.inf else "–"
    told = f"of a worker, from file to shard; {images:,} images, {rows:,} windows"
    return page.Figure(rate, "images a second", told)


# --- time -----------------------------------------------------------------------------------------


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
            bytes=int(summary.get("bytes", 0)),
        )

    return [job_time(name, step) for name, step in steps.items()]


# --- learning -------------------------------------------------------------------------------------


def learning(summaries: Mapping[str, Mapping[str, Any]]) -> list[page.Chart]:
    """Return how the network and the classifiers were trained, where there is a curve to show.

    Args:
        summaries: of all jobs.
    """
    return [*_trainings(summaries), *_mining(summaries.get("mine", {}).get("history") or [])]


def _trainings(summaries: Mapping[str, Mapping[str, Any]]) -> Iterator[page.Chart]:
    for job, what in (("pretrain", "Training from nothing"), ("finetune", "Fine-tuning")):
        told = summaries.get(job, {})
        parts = told.get("history") or []
        if len(parts) > 1:
            kept = float(told["chosen_step"]) if "chosen_step" in told else None
            lines = (
                _line("batches", parts, "step", "loss"),
                _line("held out", parts, "step", "held_loss"),
            )
            yield page.Chart(f"{what}: cross-entropy", "steps", lines, marked=kept)
            right = (_line("held out", parts, "step", "held_accuracy"),)
            named = f"{what}: share right of what is held out"
            yield page.Chart(named, "steps", right, highest=1.0, marked=kept)
        if losses := told.get("losses"):
            epochs = [{"epoch": k, "loss": loss} for k, loss in enumerate(losses, 1)]
            line = _line("mean of an epoch", epochs, "epoch", "loss")
            yield page.Chart(f"{what}: cross-entropy", "epochs", (line,))


def _mining(history: Sequence[Mapping[str, Any]]) -> Iterator[page.Chart]:
    rounds = [{"round": k, **each} for k, each in enumerate(history, 1)]
    if len(rounds) > 1:
        lines = (
            _line("hard negatives found", rounds, "round", "gained"),
            _line("easy ones dropped", rounds, "round", "evicted"),
        )
        yield page.Chart("Mining", "rounds", lines)


def _line(name: str, parts: Sequence[Mapping[str, Any]], along: str, up: str) -> page.Line:
    """Return a line through those parts of which the number is known."""
    points = ((float(each[along]), float(each[up])) for each in parts if each.get(up) is not None)
    return page.Line(name, tuple(point for point in points if math.isfinite(point[1])))


# --- with what ------------------------------------------------------------------------------------


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
    settings = from_json(place(planned["extract_test"].store).read(SETTINGS))
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
