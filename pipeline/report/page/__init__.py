"""One self-contained page about a run, or several beside each other."""

from pipeline.report.page.content import (
    Box,
    Change,
    Changes,
    Chart,
    ClassAnswers,
    ClassResult,
    Confused,
    Confusion,
    Figure,
    JobTime,
    Line,
    RunPage,
    Strip,
    Thumbnail,
)
from pipeline.report.page.render import render, require_alike

__all__ = [
    "Box",
    "Change",
    "Changes",
    "Chart",
    "ClassAnswers",
    "ClassResult",
    "Confused",
    "Confusion",
    "Figure",
    "JobTime",
    "Line",
    "RunPage",
    "Strip",
    "Thumbnail",
    "render",
    "require_alike",
]
