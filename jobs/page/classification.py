"""What the page shows of a run that classifies whole images."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs import paper
from jobs.page.figures import METHODS, Summaries, extractions, speed, work
from jobs.page.learning import learning
from pipeline.config import Recipe
from pipeline.report import page
from pipeline.report.page import image_results
from pipeline.report.tables import percent

FIGURES = {
    "mean_accuracy": ("mean class accuracy", "in percent, each class counts alike"),
    "accuracy": ("accuracy", "in percent, each image counts alike"),
    "top5": ("top-5 accuracy", "in percent, among the five highest scores"),
    "mAP": ("mean AP", "in percent"),
}
FEW = 5  # classes, of which all are among the five highest


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
    told, judged = image_results.read(folder), summaries["evaluate"]
    mean, reference_name = paper.mean_reference(recipe, [each.name for each in told.classes])
    return page.RunPage(
        figures=[
            *_figures(judged, len(told.classes)),
            speed(extractions(summaries), windows=False),
            work(shared["jobs"]),
        ],
        measure=_measure(recipe, judged, told.mean_accuracy is not None),
        classes=told.classes,
        mean_ap=told.mean_ap,
        mean_accuracy=told.mean_accuracy,
        confusion=told.confusion,
        charts=learning(summaries),
        galleries=told.galleries,
        unopened=told.unopened,
        reference_mean=mean,
        reference_name=reference_name,
        **shared,
    )


def _figures(judged: Mapping[str, Any], classes: int) -> Iterator[page.Figure]:
    """Yield what the run came to, with the deviation over random splits."""
    for key, (name, note) in FIGURES.items():
        value, spread = judged.get(key), judged.get(f"{key}_std")
        if value is None or (key == "top5" and classes <= FEW):
            continue
        deviation = "" if spread is None else f" ± {percent(spread)}"
        yield page.Figure(f"{percent(value)}{deviation}", name, note)


def _measure(recipe: Recipe, judged: Mapping[str, Any], single: bool) -> str:
    method = METHODS[recipe.evaluation.method]
    answers = f"{judged['images']:,}"
    if not single:
        return (
            f"Average precision in percent, {method}; {answers} images, of which each "
            "may show several classes."
        )
    told = "Accuracy in percent: of each class’s images, those whose highest score is its own; "
    if "splits" not in judged:
        return f"{told}{answers} images. AP is by {method}."
    return (
        f"{told}means of {judged['splits']} random splits of the images, with {answers} answers in "
        f"all, and ± their standard deviation. AP is by {method}."
    )
