"""The drawings of the page: SVG with text to select, in the colours of its style sheet."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from pipeline.report.page.content import Chart, ClassResult, JobTime
from pipeline.report.page.svg import element, path
from pipeline.report.tables import percent

MOST_POINTS = 240  # of a curve: a chart is no wider
LETTER_PX = 6.6  # of text of 12 px, at most on average


def class_bars(
    results: Sequence[Sequence[ClassResult]], reference: Mapping[str, float], reference_name: str
) -> Markup:
    """Average precision of each class: a bar for each run, and a line where somebody else came to.

    Args:
        results: of each run, the same classes in the same order.
        reference: AP by class; of those that it lacks there is no line.
        reference_name: whose that is.
    """
    names = [each.name for each in results[0]]
    thick = 15 if len(results) == 1 else 9
    step = thick * len(results) + 9
    left = min(220, max(60, LETTER_PX * max(map(len, names), default=0) + 12))
    wide, height = 640.0, step * len(names) + 26
    scale = (wide - left - 48) / 100
    parts: list[Markup] = []
    for percents in range(0, 101, 20):
        x = left + percents * scale
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=height - 22))
        told = f"{percents}"
        parts.append(element("text", told, class_="tick", x=x, y=height - 8, text_anchor="middle"))
    for row, name in enumerate(names):
        top = row * step + 4
        middle = top + (step - 9) / 2
        label = _cut(name, left - 12)
        parts.append(
            element(
                "text", label, element("title", name), x=left - 8, y=middle + 4, text_anchor="end"
            )
        )
        for run, held in enumerate(results):
            ap = held[row].ap
            y = top + run * thick
            width = 0.0 if math.isnan(ap) else 100 * ap * scale
            hint = element("title", f"{name}: {percent(ap)}")
            size = {"x": left, "y": y, "width": width, "height": thick - 1.5}
            parts.append(element("rect", hint, class_=f"bar run{run}", **size))
            parts.append(
                element(
                    "text", percent(ap), class_="value", x=left + width + 5, y=y + thick / 2 + 3
                )
            )
        if name in reference:
            x = left + 100 * reference[name] * scale
            hint = element("title", f"{name}, {reference_name}: {percent(reference[name])}")
            parts.append(
                element("line", hint, class_="reference", x1=x, x2=x, y1=top - 2, y2=top + step - 7)
            )
    return _drawing(wide, height, "average precision of each class, in percent", parts)


def precision_recall(held: Sequence[ClassResult]) -> Markup:
    """Precision over recall of one class: the envelope that AP measures, a line for each run."""
    side, left, foot = 150.0, 24.0, 20.0
    parts: list[Markup] = []
    for share, told in ((0.0, "0"), (0.5, ".5"), (1.0, "1")):
        x, y = left + share * side, 8 + (1 - share) * side
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=8, y2=8 + side))
        parts.append(element("line", class_="grid", x1=left, x2=left + side, y1=y, y2=y))
        parts.append(
            element("text", told, class_="tick", x=x, y=side + foot + 3, text_anchor="middle")
        )
        parts.append(element("text", told, class_="tick", x=left - 5, y=y + 4, text_anchor="end"))
    for run, each in enumerate(held):
        placed = [(left + x * side, 8 + (1 - y) * side) for x, y in each.curve]
        if len(held) == 1 and placed:
            ends = [(placed[-1][0], 8 + side), (left, 8 + side)]
            parts.append(element("path", class_="area", d=path([*placed, *ends]) + "Z"))
        if placed:
            parts.append(element("path", class_=f"curve run{run}", d=path(placed)))
    if not any(each.objects for each in held):
        parts.append(_note("no objects to find", left + side / 2, 8 + side / 2))
    elif not any(each.detections for each in held):
        parts.append(_note("nothing detected", left + side / 2, 8 + side / 2))
    told = f"precision over recall of {held[0].name}"
    return _drawing(left + side + 10, side + foot + 12, told, parts)


def envelope(
    recall: Float[np.ndarray, " detections"], precision: Float[np.ndarray, " detections"]
) -> tuple[tuple[float, float], ...]:
    """Return the corners of the steps that AP measures, few enough for a small chart.

    Args:
        recall: after each detection, best score first; nan where there is nothing to find.
        precision: likewise.
    """
    steps = np.flatnonzero(np.diff(recall, prepend=0.0) > 0)
    if not len(steps):
        return ()
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if len(steps) > MOST_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int)]
    recalls, heights = recall[steps].tolist(), best[steps].tolist()
    corners, before = [(0.0, heights[0])], 0.0
    for along, height in zip(recalls, heights, strict=True):
        corners += [(before, height), (along, height)]
        before = along
    return tuple(dict.fromkeys(corners))


def chart(told: Chart) -> Markup:
    """Lines over one axis."""
    wide, high, left, foot = 330.0, 170.0, 46.0, 34.0
    points = [point for line in told.lines for point in line.points]
    first = min(x for x, _ in points) if told.lowest_along is None else told.lowest_along
    last = max(x for x, _ in points)
    top = told.highest or 1.08 * max(y for _, y in points) or 1.0
    across, up = (wide - left - 10) / ((last - first) or 1), (high - 8) / top

    def place(x: float | int, y: float | int) -> tuple[float, float]:
        return left + (x - first) * across, high - min(y, top) * up

    parts: list[Markup] = []
    for height in _ticks(top):
        y = place(first, height)[1]
        parts.append(element("line", class_="grid", x1=left, x2=wide - 10, y1=y, y2=y))
        told_y = f"{height:g}"
        parts.append(element("text", told_y, class_="tick", x=left - 6, y=y + 4, text_anchor="end"))
    for x_value in dict.fromkeys((first, last)):
        x = place(x_value, 0)[0]
        anchor = "start" if x_value == first else "end"
        told_x = f"{x_value:,g}"
        parts.append(element("text", told_x, class_="tick", x=x, y=high + 15, text_anchor=anchor))
    middle = (left + wide - 10) / 2
    parts.append(
        element("text", told.along, class_="tick", x=middle, y=high + 15, text_anchor="middle")
    )
    if told.marked is not None:
        x = place(told.marked, 0)[0]
        parts.append(element("line", class_="marked", x1=x, x2=x, y1=8, y2=high))
    for number, line in enumerate(told.lines):
        placed = [place(x, y) for x, y in line.points]
        parts.append(element("path", class_=f"curve run{number}", d=path(placed)))
        if len(placed) < 40:
            parts += [
                element("circle", class_=f"dot run{number}", cx=x, cy=y, r=2.2) for x, y in placed
            ]
    return _drawing(wide, high + foot - 12, told.title, parts)


def timeline(jobs: Sequence[JobTime]) -> Markup:
    """When each job ran, and what its workers were at.

    The bar of a job with stages is divided as its workers' seconds are: stages overlap.
    """
    left = min(200, LETTER_PX * max(len(each.name) for each in jobs) + 12)
    wide, step = 640.0, 24
    end = max((each.start_s + each.seconds for each in jobs if not each.reused), default=0) or 1.0
    scale = (wide - left - 70) / end
    parts: list[Markup] = []
    for tick in _ticks(end):
        x = left + tick * scale
        foot = step * len(jobs) + 18
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=step * len(jobs) + 4))
        parts.append(
            element("text", f"{tick:g} s", class_="tick", x=x, y=foot, text_anchor="middle")
        )
    for row, job in enumerate(jobs):
        y = row * step + 4
        parts.append(element("text", job.name, x=left - 8, y=y + 13, text_anchor="end"))
        if job.reused:
            told = f"done before, in {seconds(job.seconds)}"
            parts.append(element("text", told, class_="tick", x=left + 4, y=y + 13))
            continue
        x, width = left + job.start_s * scale, max(1.5, job.seconds * scale)
        hint = element("title", f"{job.name}: {job.told}")
        parts.append(
            element("rect", hint, class_="job", x=x, y=y, width=width, height=step - 7, rx=2)
        )
        at, total = x, sum(job.stages.values())
        for number, (stage, spent) in enumerate(job.stages.items()):
            part = width * spent / total if total else 0.0
            hint = element("title", f"{job.name}, {stage}: {seconds(spent)} of workers")
            size = {"x": at, "y": y, "width": part, "height": step - 7}
            parts.append(element("rect", hint, class_=f"stage{number}", **size))
            at += part
        parts.append(
            element("text", seconds(job.seconds), class_="value", x=x + width + 5, y=y + 13)
        )
    return _drawing(wide, step * len(jobs) + 24, "when each job ran", parts)


def graph(jobs: Sequence[JobTime]) -> Markup:
    """Which job follows which: those in one column may run at the same time."""
    depth: dict[str, int] = {}
    known = {job.name for job in jobs}
    for job in jobs:  # each after those it needs
        depth[job.name] = 1 + max((depth[need] for need in job.needs if need in known), default=-1)
    columns: dict[int, list[JobTime]] = {}
    for job in jobs:
        columns.setdefault(depth[job.name], []).append(job)
    box, gap_x, gap_y, high = 118.0, 26.0, 12.0, 38.0
    rows = max(map(len, columns.values()))
    place = {
        job.name: (
            column * (box + gap_x) + 1,
            (row + (rows - len(held)) / 2) * (high + gap_y) + 1,
        )
        for column, held in columns.items()
        for row, job in enumerate(held)
    }
    parts: list[Markup] = []
    for job in jobs:
        x, y = place[job.name]
        for need in _direct(job, jobs):
            if need in place:
                before_x, before_y = place[need][0] + box, place[need][1] + high / 2
                bend = (before_x + x) / 2
                ends = f"{bend} {before_y} {bend} {y + high / 2} {x} {y + high / 2}"
                line = f"M{before_x} {before_y}C{ends}"
                parts.append(element("path", class_="edge", d=line))
    for job in jobs:
        x, y = place[job.name]
        hint = element("title", job.told)
        kind = "node reused" if job.reused else "node"
        parts.append(element("rect", hint, class_=kind, x=x, y=y, width=box, height=high, rx=5))
        parts.append(
            element(
                "text", job.name, x=x + box / 2, y=y + 16, text_anchor="middle", class_="strong"
            )
        )
        told = f"{seconds(job.seconds)}{', before' if job.reused else ''}"
        parts.append(
            element("text", told, x=x + box / 2, y=y + 30, text_anchor="middle", class_="tick")
        )
    wide = len(columns) * (box + gap_x) - gap_x + 2
    return _drawing(wide, rows * (high + gap_y) - gap_y + 2, "which job follows which", parts)


def _direct(job: JobTime, jobs: Sequence[JobTime]) -> list[str]:
    """Return what a job needs and no other of its needs does: those lines say it all."""
    needs = {each.name: each.needs for each in jobs}

    def upstream(name: str) -> set[str]:
        return {above for need in needs.get(name, ()) for above in (need, *upstream(need))}

    behind = {above for need in job.needs for above in upstream(need)}
    return [need for need in job.needs if need not in behind]


def seconds(count: float | int) -> str:
    """Return a duration as people say it.

    >>> seconds(0.26), seconds(14.29), seconds(3661)
    ('0.3 s', '14 s', '1 h 01 min')
    """
    if count < 10:
        return f"{count:.1f} s"
    if count < 120:
        return f"{count:.0f} s"
    minutes = round(count / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _drawing(wide: float | int, high: float | int, told: str, parts: Sequence[Markup]) -> Markup:
    return element(
        "svg", element("title", told), *parts, viewBox=f"0 0 {wide:g} {high:g}", role="img",
        style=f"max-width:{wide * 1.25:g}px",
    )  # fmt: skip


def _note(text: str, x: float | int, y: float | int) -> Markup:
    return element("text", text, class_="tick", x=x, y=y, text_anchor="middle")


def _cut(name: str, most_px: float | int) -> str:
    most = int(most_px / LETTER_PX)
    return name if len(name) <= most else name[: max(1, most - 1)] + "…"


def _ticks(top: float | int) -> list[float | int]:
    """Return about four round numbers from 0 to the top."""
    rough = top / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * each for each in (1, 2, 5, 10) if unit * each >= rough)
    return [step * k for k in range(int(top / step) + 1)]
