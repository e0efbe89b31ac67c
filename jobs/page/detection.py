"""What the page shows of a run that detects objects."""

from pathlib import Path
from typing import Any

from jobs import paper
from jobs.page.figures import METHODS, Summaries, extractions, speed, work
from jobs.page.learning import learning
from pipeline.config import Recipe
from pipeline.report import page
from pipeline.report.page import results
from pipeline.report.tables import percent
from pipeline.store.files import number


def run_page(recipe: Recipe, summaries: Summaries, folder: Path, /, **shared: Any) -> page.RunPage:
    """Return all of it.

    Args:
        recipe: of the run.
        summaries: of its jobs.
        folder: of the job `report`.
        **shared: what runs of both tasks have.

    Raises:
        InputError: what was kept for the page is damaged.
    """
    told, evaluation = results.read(folder), recipe.evaluation
    reference, reference_name = paper.reference(recipe, [each.name for each in told.classes])
    judged, recall = summaries["evaluate"], summaries["windows_test"]["recall_at_0.5"]
    figures = [
        page.Figure(percent(number(judged["mAP"])), "mean AP", "in percent"),
        page.Figure(
            percent(number(judged["AP_coco"])),
            "COCO AP",
            "in percent, the mean over IoU 0.50 to 0.95",
        ),
        speed(extractions(summaries)),
        page.Figure(percent(number(recall)), "window recall", "at IoU 0.5, in percent"),
        work(shared["jobs"]),
    ]
    return page.RunPage(
        figures=figures,
        measure=f"Average precision in percent, {METHODS[evaluation.method]}; IoU ≥ "
        f"{evaluation.iou:g}; "
        f"{summaries['dataset_test']['images']:,} test images.",
        classes=told.classes,
        mean_ap=told.mean_ap,
        charts=[told.recall, *learning(summaries)],
        galleries=told.galleries,
        unopened=told.unopened,
        reference=reference,
        reference_name=reference_name,
        **shared,
    )
