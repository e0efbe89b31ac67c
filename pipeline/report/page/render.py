"""From what a page shows to its HTML: one file that fetches nothing."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from pipeline.errors import InputError
from pipeline.evaluation import KINDS
from pipeline.report.page import charts, differences, time_charts
from pipeline.report.page.content import RunPage
from pipeline.report.page.galleries import BOXES
from pipeline.report.page.matrix import confusion_matrix
from pipeline.report.page.svg import fitting
from pipeline.report.page.thumbnails import MOST_CLASSES
from pipeline.report.tables import percent

HERE = Path(__file__).parent
MOST_OPEN = 12  # fields that differ; more would push the scores off the first screen


def require_alike(runs: Sequence[RunPage]) -> None:
    """Check that runs can stand on one page.

    Raises:
        InputError: no runs or too many, or runs of different tasks, with different classes, or
            judged by different measures.
    """
    if not 1 <= len(runs) <= charts.MOST_RUNS:
        raise InputError(f"a page is about 1 to {charts.MOST_RUNS} runs, and here are {len(runs)}")
    first = runs[0]
    names = [each.name for each in first.classes]
    for other in runs[1:]:
        if (other.task, [each.name for each in other.classes]) != (first.task, names):
            raise InputError(
                f"{first.name} and {other.name} have different tasks or classes: only runs on the "
                "same classes stand beside each other"
            )
        if (other.mean_accuracy is None) != (first.mean_accuracy is None):
            one, several = (first, other) if other.mean_accuracy is None else (other, first)
            raise InputError(
                f"{one.name} is judged by accuracy, for its images show one class each, and "
                f"{several.name} by average precision, for its images do not: these two do not "
                "compare; write a page of each"
            )


def render(runs: Sequence[RunPage]) -> str:
    """Return the page of one run, or of several; raises what `require_alike` does."""
    require_alike(runs)
    first = runs[0]
    # Text is escaped unless it is Markup; what is not there is an error and no blank.
    return (
        _templates()
        .get_template(f"{first.task}.html")
        .render(
            runs=runs,
            first=first,
            names=[each.name for each in first.classes],
            charts=charts,
            fitting=fitting,
            time_charts=time_charts,
            percent=percent,
            difference=_difference,
            measures=_measures(runs),
            figure_names=dict.fromkeys(each.name for run in runs for each in run.figures),
            kinds=("true", *KINDS),
            boxes=BOXES,
            confusion_matrix=confusion_matrix,
            has_pictures=any(run.galleries for run in runs),
            most_classes=MOST_CLASSES,
            most_different=differences.MOST_CLASSES,
            most_open=MOST_OPEN,
            stages=[
                *dict.fromkeys(stage for run in runs for job in run.jobs for stage in job.stages)
            ],
            differing=_differing(runs),
        )
    )


@cache
def _templates() -> Environment:
    """Return what pages are made of: `page.html`, which those of a task fill in, and its parts."""
    loader = FileSystemLoader(HERE / "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters["thousands"] = lambda number: f"{number:,}"
    made.filters["decimal"] = decimal
    made.globals["css"] = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return made


def _difference(score: float, other: float) -> str:
    """Return by how many points a score is higher, or lower."""
    points = round(100 * (score - other), 1) + 0.0  # no -0.0
    return "–" if math.isnan(points) else f"{points:+.1f}"


def _measures(runs: Sequence[RunPage]) -> dict[str, list[str]]:
    """Return what was measured and how, and whose: it should be one way for all."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.measure, []).append(run.name)
    return found


def _differing(runs: Sequence[RunPage]) -> set[tuple[str, str]]:
    """Return section and field of what is not the same in all recipes; their names stand above."""
    fields = {
        (section, name) for run in runs for section in run.recipe for name in run.recipe[section]
    } - {("", "name")}
    return {
        (section, name)
        for section, name in fields
        if len({run.recipe.get(section, {}).get(name) for run in runs}) > 1
    }
