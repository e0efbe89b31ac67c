"""The page about a run: what its jobs left behind, gathered for `pipeline.report.page`."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobs import dag, show
from jobs.events import EVENTS
from jobs.job import Step
from jobs.job_log import JobLog
from pipeline import machine
from pipeline.config import Recipe, digest
from pipeline.outcome import read_results
from pipeline.report import page
from pipeline.report.page import paper
from pipeline.report.page.charts import seconds
from pipeline.report.tables import percent

FILE = "report.html"


def write_page(file: Path, runs: Sequence[tuple[Recipe, Mapping[str, Step]]]) -> Path:
    """Write the page about finished runs of detection, beside each other, and return its file.

    Args:
        file: where to; it appears when it is whole.
        runs: recipes with their jobs.

    Raises:
        InputError: they have different classes.
    """
    html = page.render([_gather(recipe, planned) for recipe, planned in runs])
    unfinished = file.with_name(f".{file.name}.tmp")
    unfinished.write_text(html, encoding="utf-8")
    unfinished.replace(file)
    return file


def _gather(recipe: Recipe, planned: Mapping[str, Step]) -> page.RunPage:
    jobs = dag.upstream(planned, ["evaluate", "report"])
    folders = {name: planned[name].folder for name in jobs}
    records = {name: planned[name].record or {} for name in jobs}
    summaries = {name: record.get("summary", {}) for name, record in records.items()}
    told = read_results(folders["report"])
    timed = _times(jobs, planned, records)
    evaluation = recipe.evaluation
    reference, reference_name = paper.reference([each.name for each in told.classes])
    return page.RunPage(
        name=recipe.name,
        task=recipe.task,
        figures=_figures(summaries, timed),
        measure=f"Average precision in percent, {evaluation.method}, IoU ≥ {evaluation.iou:g}; "
        f"{summaries['dataset_test']['images']:,} test images.",
        classes=told.classes,
        mean_ap=told.mean_ap,
        charts=[told.recall, *_learning(summaries)],
        jobs=timed,
        galleries=told.galleries,
        recipe=_fields(recipe),
        made_with=_made_with(recipe, folders),
        quarantined=[*_quarantined(summaries).items()],
        reference=reference,
        reference_name=reference_name,
    )


def _figures(
    summaries: Mapping[str, Mapping[str, Any]], timed: Sequence[page.JobTime]
) -> list[page.Figure]:
    judged = summaries["evaluate"]
    figures = [page.Figure(percent(_share(judged["mAP"])), "mean AP", "in percent")]
    figures.append(page.Figure(percent(_share(judged["AP_coco"])), "COCO AP", "IoU 0.50 to 0.95"))
    stored = [each for name, each in summaries.items() if name.startswith("extract_")]
    images, rows = (sum(each.get(what, 0) for each in stored) for what in ("images", "rows"))
    spent = sum(each.seconds for each in timed if each.name.startswith("extract_"))
    figures.append(
        page.Figure(
            f"{images / spent:,.1f}" if spent else "–",
            "images a second",
            f"extracted: {images:,} images, {rows:,} windows",
        )
    )
    recall = summaries["windows_test"]["recall_at_0.5"]
    figures.append(page.Figure(percent(_share(recall)), "window recall", "at IoU 0.5, in percent"))
    total = sum(each.seconds for each in timed)
    figures.append(page.Figure(seconds(total), "work in all", "jobs, one after the other"))
    return figures


def _times(
    jobs: Sequence[str], planned: Mapping[str, Step], records: Mapping[str, Mapping[str, Any]]
) -> list[page.JobTime]:
    """Return when each job ran; those that ran long before the last one are of an earlier run."""
    begun = {name: _begun(planned[name].folder) for name in jobs}
    last_begin = _run_begun(begun, records)
    return [
        page.JobTime(
            name,
            tuple(planned[name].job.needs),
            start_s=max(0.0, begun[name] - last_begin) if begun[name] else 0.0,
            seconds=float(records[name].get("seconds", 0.0)),
            told=show.headline(records[name].get("summary", {})),
            reused=not begun[name] or begun[name] < last_begin,
            stages=records[name].get("summary", {}).get("worker_seconds", {}),
            bytes=int(records[name].get("summary", {}).get("bytes", 0)),
        )
        for name in jobs
    ]


PAUSE_S = 60.0  # between two jobs of one run nothing happens for less than this


def _run_begun(begun: Mapping[str, float], records: Mapping[str, Mapping[str, Any]]) -> float:
    """Return when the last run began: jobs before a long pause are an earlier one's."""
    spans = sorted(
        (start, start + float(records[name].get("seconds", 0))) for name, start in begun.items()
    )
    first, end = spans[0]
    for start, ended in spans[1:]:
        if start > end + PAUSE_S:
            first = start
        end = max(end, ended)
    return first


def _begun(folder: Path) -> float:
    """Return when a job was last begun, in seconds since 1970; 0: nobody wrote it down."""
    log = JobLog(folder / EVENTS)
    log.read()
    return log.begun_s or 0.0


def _learning(summaries: Mapping[str, Mapping[str, Any]]) -> list[page.Chart]:
    charts: list[page.Chart] = []
    for job, what in (("pretrain", "Training from nothing"), ("finetune", "Fine-tuning")):
        told = summaries.get(job, {})
        parts = told.get("history") or []
        if len(parts) > 1:
            kept = float(told["chosen_step"]) if "chosen_step" in told else None
            lines = (
                _line("batches", parts, "step", "loss"),
                _line("held out", parts, "step", "held_loss"),
            )
            charts.append(page.Chart(f"{what}: cross-entropy", "steps", lines, marked=kept))
            right = (_line("held out", parts, "step", "held_accuracy"),)
            named = f"{what}: share right of what is held out"
            charts.append(page.Chart(named, "steps", right, highest=1.0, marked=kept))
        if losses := told.get("losses"):
            points = tuple((float(k), float(loss)) for k, loss in enumerate(losses, 1))
            line = page.Line("mean of an epoch", points)
            charts.append(page.Chart(f"{what}: cross-entropy", "epochs", (line,)))
    rounds = [{"round": k, **each} for k, each in enumerate(_rounds(summaries), 1)]
    if len(rounds) > 1:
        lines = (
            _line("hard negatives found", rounds, "round", "gained"),
            _line("easy ones dropped", rounds, "round", "evicted"),
        )
        charts.append(page.Chart("Mining", "rounds", lines))
    return charts


def _rounds(summaries: Mapping[str, Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return summaries.get("mine", {}).get("history") or []


def _line(name: str, parts: Sequence[Mapping[str, Any]], along: str, up: str) -> page.Line:
    return page.Line(name, tuple((float(each[along]), float(each[up])) for each in parts))


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


def _made_with(recipe: Recipe, folders: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Return what one has to know to make it again."""
    log = JobLog(folders["evaluate"] / EVENTS)
    log.read()
    begun_by = log.begun_by
    return [
        ("recipe", digest(recipe)),
        ("sppnet", str(begun_by.get("version", version("sppnet")))),
        *((name, version(name)) for name in ("torch", "ray", "numpy", "pyarrow")),
        ("python", platform.python_version()),
        ("machine", f"{platform.system()} {platform.machine()}, {machine.cpus()} CPU cores"),
        ("jobs", ", ".join(sorted(folder.name for folder in folders.values()))),
    ]


def _quarantined(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    told = [each.get(key, {}) for each in summaries.values() for key in ("unreadable", "reasons")]
    return {image_id: reason for each in told for image_id, reason in each.items()}


def _share(value: float | None) -> float:
    return math.nan if value is None else value
