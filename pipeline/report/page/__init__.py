"""One self-contained page about a run, or several beside each other."""

from pipeline.report.page.content import (
    Box,
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
from pipeline.report.page.render import render

__all__ = [
    "Box",
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
]
