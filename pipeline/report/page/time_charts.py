"""When a run's jobs ran, what their workers were at, and which follows which: SVG."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from pipeline.report.page.content import JobTime
from pipeline.report.page.svg import LETTER_PX, drawing, element, ticks

STAGE_COLOURS = 6  # that the style sheet has


def timeline(jobs: Sequence[JobTime]) -> Markup:
    """When each job ran, in the run that is shown."""
    left = _margin(each.name for each in jobs)
    wide, step = 640.0, 22
    end = max((start + spent for each in jobs for start, spent in each.spans), default=0) or 1.0
    scale = (wide - left - 70) / end
    parts = _seconds_axis(end, left, scale, step * len(jobs))
    for row, job in enumerate(jobs):
        y = row * step + 4
        parts.append(element("text", job.name, x=left - 8, y=y + 12, text_anchor="end"))
        told, behind = f"by another run, in {seconds(job.seconds)}", left + 4
        for start, spent in job.spans:
            x, width = left + start * scale, max(1.5, spent * scale)
            hint = element("title", f"{job.name}: {job.told}")
            bar = {"x": x, "y": y, "width": width, "height": step - 7, "rx": 2}
            parts.append(element("rect", hint, class_="job", **bar))
            told, behind = seconds(job.seconds), x + width + 5
        if job.attempts > 1:
            told = f"{told}, {job.attempts} attempts"
        style = "tick" if job.is_earlier else "value"
        parts.append(element("text", told, class_=style, x=behind, y=y + 12))
    return drawing(wide, step * len(jobs) + 24, "when each job ran", parts)


def stage_bars(jobs: Sequence[JobTime], stages: Sequence[str]) -> Markup:
    """What workers were at, of each job that tells: stages overlap, so these are sums.

    Args:
        jobs: of a run.
        stages: in the order of their colours.
    """
    told = [job for job in jobs if job.stages]
    left = _margin(each.name for each in told)
    wide, step = 640.0, 22
    end = max((sum(job.stages.values()) for job in told), default=0) or 1.0
    scale = (wide - left - 70) / end
    parts = _seconds_axis(end, left, scale, step * len(told))
    for row, job in enumerate(told):
        y, at = row * step + 4, left
        parts.append(element("text", job.name, x=left - 8, y=y + 12, text_anchor="end"))
        for stage, spent in job.stages.items():
            hint = element("title", f"{job.name}, {stage}: {seconds(spent)} of workers")
            size = {"x": at, "y": y, "width": spent * scale, "height": step - 7}
            parts.append(element("rect", hint, class_=stage_class(stage, stages), **size))
            at += spent * scale
        total = seconds(sum(job.stages.values()))
        parts.append(element("text", total, class_="value", x=at + 5, y=y + 12))
    return drawing(wide, step * len(told) + 24, "what workers were at", parts)


def stage_class(stage: str, stages: Sequence[str]) -> str:
    """Return the style of a stage: the same for all jobs and runs of a page."""
    return f"stage{stages.index(stage) % STAGE_COLOURS}"


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
        kind = "node earlier" if job.is_earlier else "node"
        parts.append(element("rect", hint, class_=kind, x=x, y=y, width=box, height=high, rx=5))
        parts.append(
            element(
                "text", job.name, x=x + box / 2, y=y + 16, text_anchor="middle", class_="strong"
            )
        )
        told = f"{seconds(job.seconds)}{', before' if job.is_earlier else ''}"
        parts.append(
            element("text", told, x=x + box / 2, y=y + 30, text_anchor="middle", class_="tick")
        )
    wide = len(columns) * (box + gap_x) - gap_x + 2
    return drawing(wide, rows * (high + gap_y) - gap_y + 2, "which job follows which", parts)


def _margin(names: Iterable[str]) -> float:
    return min(200.0, LETTER_PX * max(map(len, names), default=0) + 12)


def _seconds_axis(end: float, left: float, scale: float, high: float | int) -> list[Markup]:
    parts: list[Markup] = []
    for tick in ticks(end):
        x = left + tick * scale
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=high + 4))
        told = f"{tick:,g} s"
        parts.append(element("text", told, class_="tick", x=x, y=high + 18, text_anchor="middle"))
    return parts


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
