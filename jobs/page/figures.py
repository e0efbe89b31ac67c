"""Numbers in large type that runs of both tasks have."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import page
from pipeline.report.page.time_charts import seconds

METHODS = {
    "voc07": "voc07: the mean of precision at 11 recalls",
    "area": "area: the mean of precision over all recalls",
}
Summaries = Mapping[str, Mapping[str, Any]]
"""Of jobs, by their names."""


def extractions(summaries: Summaries) -> list[Mapping[str, Any]]:
    """Return the summaries of the jobs that made the stores."""
    return [each for name, each in summaries.items() if name.startswith("extract_")]


def speed(stores: Sequence[Mapping[str, Any]], windows: bool = True) -> page.Figure:
    """Return the speed of a worker that extracts.

    Not of jobs: two at the same time slow each other, and one that was gone on with knows its last
    part only.

    Args:
        stores: summaries of extractions.
        windows: whether rows are windows of images, and not whole ones.
    """
    images, rows = (sum(each.get(what, 0) for each in stores) for what in ("images", "rows"))
    made = [each for each in stores if not each.get("taken_over")] or stores
    spent = sum(
        each["images"] * (each.get("worker", {}).get("seconds_per_image") or math.inf)
        for each in made
    )
    known = 0 < spent < math.inf
    rate = f"{sum(each['images'] for each in made) / spent:,.1f}" if known else "–"
    told = f"of a worker, from file to shard; {images:,} images"
    if taken := sum(each.get("taken_over", 0) for each in stores):
        told += f", {taken:,} of them taken over from an earlier run"
    return page.Figure(rate, "images a second", f"{told}, {rows:,} windows" if windows else told)


def work(timed: Sequence[page.JobTime]) -> page.Figure:
    """Return the time of all jobs."""
    total = sum(each.seconds for each in timed)
    return page.Figure(seconds(total), "work in all", "of all jobs and attempts, added up")
