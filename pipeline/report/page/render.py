"""From what a page shows to its HTML: one file that fetches nothing."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.errors import InputError
from pipeline.evaluation import KINDS
from pipeline.report.page import charts
from pipeline.report.page.content import RunPage
from pipeline.report.page.galleries import BOXES
from pipeline.report.tables import percent

HERE = Path(__file__).parent


def render(runs: Sequence[RunPage]) -> str:
    """Return the page of one run, or of several beside each other.

    Raises:
        InputError: no runs, or runs of different tasks or with different classes.
    """
    if not runs:
        raise InputError("a page is about one run or more, and there is none")
    first = runs[0]
    names = [each.name for each in first.classes]
    for other in runs[1:]:
        if (other.task, [each.name for each in other.classes]) != (first.task, names):
            raise InputError(
                f"{first.name} and {other.name} have different tasks or classes: only runs on the "
                "same classes stand beside each other"
            )
    # Text is escaped unless it is Markup; what is not there is an error and no blank.
    return _template().render(
        runs=runs,
        first=first,
        names=names,
        charts=charts,
        percent=percent,
        figure_names=dict.fromkeys(each.name for run in runs for each in run.figures),
        kinds=("true", *KINDS),
        meanings=BOXES,
        stages=dict.fromkeys(stage for run in runs for job in run.jobs for stage in job.stages),
        differing=_differing(runs),
    )


@cache
def _template():
    loader = FileSystemLoader(HERE)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters["thousands"] = lambda number: f"{number:,}"
    made.globals["css"] = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return made.get_template("page.html")


def _differing(runs: Sequence[RunPage]) -> set[tuple[str, str]]:
    """Return section and field of what is not the same in all recipes."""
    fields = {
        (section, name) for run in runs for section in run.recipe for name in run.recipe[section]
    }
    return {
        (section, name)
        for section, name in fields
        if len({run.recipe.get(section, {}).get(name) for run in runs}) > 1
    }
