"""When a run's jobs ran, what their workers were at, and which follows which: SVG."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup
from rich.filesize import decimal

from pipeline.report.page.content import JobTime
from pipeline.report.page.svg import LETTER_PX, ROOMY, cut_name, drawing, element, ticks

BOX = 118.0  # px of a job in the graph
STAGE_COLOURS = 6  # that the style sheet has


def timeline(jobs: Sequence[JobTime], wide: float | int = ROOMY) -> Markup:
    """When each job ran, in the run that is shown."""
    left = _margin(each.name for each in jobs)
    step = 22
    end = max((start + spent for each in jobs for start, spent in each.spans), default=0) or 1.0
    told = [_took(job, wide) for job in jobs]
    behind = [each for each, job in zip(told, jobs, strict=True) if not job.is_earlier]
    room = max(70.0, LETTER_PX * max(map(len, behind), default=0) + 8)
    scale = (wide - left - room) / end
    parts = _seconds_axis(end, left, scale, step * len(jobs), wide)
    for row, job in enumerate(jobs):
        y, x = row * step + 4, left + 4
        parts.append(element("text", job.name, x=left - 8, y=y + 12, text_anchor="end"))
        for start, spent in job.spans:
            width = max(1.5, spent * scale)
            hint = element("title", f"{job.name}: {job.told}")
            bar = {"x": left + start * scale, "y": y, "width": width, "height": step - 7, "rx": 2}
            parts.append(element("rect", hint, class_="job", **bar))
            x = left + start * scale + width + 5
        style = "tick" if job.is_earlier else "value"
        parts.append(element("text", told[row], class_=style, x=x, y=y + 12))
    return drawing(wide, step * len(jobs) + 24, "when each job ran", parts)


def _took(job: JobTime, wide: float | int) -> str:
    """Return how long a job took, and by whom."""
    took = seconds(job.seconds)
    if job.is_earlier and wide < ROOMY:
        return f"{took}, earlier"
    if job.is_earlier:
        took = f"by another run, in {took}"
    return f"{took}, {job.attempts} attempts" if job.attempts > 1 else took


def stage_bars(jobs: Sequence[JobTime], stages: Sequence[str], wide: float | int = ROOMY) -> Markup:
    """What workers were at, of each job that tells: stages overlap, so these are sums.

    Args:
        jobs: of a run.
        stages: in the order of their colours.
        wide: of the drawing, px.
    """
    told = [job for job in jobs if job.stages]
    left = _margin(each.name for each in told)
    step = 22
    end = max((sum(job.stages.values()) for job in told), default=0) or 1.0
    scale = (wide - left - 70) / end
    parts = _seconds_axis(end, left, scale, step * len(told), wide)
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


def byte_bars(jobs: Sequence[JobTime], wide: float | int = ROOMY) -> Markup:
    """What each job left on disk, or in an object store."""
    left, step = _margin(each.name for each in jobs), 22
    most = max((job.bytes for job in jobs), default=0) or 1
    scale = (wide - left - 70) / most
    parts: list[Markup] = []
    for row, job in enumerate(jobs):
        y = row * step + 4
        parts.append(element("text", job.name, x=left - 8, y=y + 12, text_anchor="end"))
        hint = element("title", f"{job.name}: {job.bytes:,} bytes")
        bar = {"x": left, "y": y, "width": job.bytes * scale, "height": step - 7, "rx": 2}
        parts.append(element("rect", hint, class_="job", **bar))
        behind = left + job.bytes * scale + 5
        parts.append(element("text", decimal(job.bytes), class_="value", x=behind, y=y + 12))
    return drawing(wide, step * len(jobs) + 4, "what each job left", parts)


def stage_class(stage: str, stages: Sequence[str]) -> str:
    """Return the style of a stage: the same for all jobs and runs of a page."""
    return f"stage{stages.index(stage) % STAGE_COLOURS}"


def graph(jobs: Sequence[JobTime], wide: float | int = ROOMY) -> Markup:
    """Which job follows which: those side by side may run at the same time.

    Args:
        jobs: each after those it needs.
        wide: px that there are: where they are few, it runs downwards.
    """
    depth: dict[str, int] = {}
    known = {job.name for job in jobs}
    for job in jobs:
        depth[job.name] = 1 + max((depth[need] for need in job.needs if need in known), default=-1)
    ranks: dict[int, list[JobTime]] = {}
    for job in jobs:
        ranks.setdefault(depth[job.name], []).append(job)
    most, high = max(map(len, ranks.values())), 38.0
    downwards = wide < ROOMY
    box = min(BOX, (wide + 12) / most - 14) if downwards else BOX
    along, across = (high + 22, box + 12) if downwards else (box + 26, high + 12)
    place: dict[str, tuple[float, float]] = {}
    for rank, held in ranks.items():
        for number, job in enumerate(held):
            x, y = rank * along + 1, (number + (most - len(held)) / 2) * across + 1
            place[job.name] = (y, x) if downwards else (x, y)
    parts: list[Markup] = []
    for job in jobs:
        for need in _direct(job, jobs):
            if need in place:
                parts.append(_edge(place[need], place[job.name], box, high, downwards))
    for job in jobs:
        x, y = place[job.name]
        hint = element("title", job.told)
        kind = "node earlier" if job.is_earlier else "node"
        parts.append(element("rect", hint, class_=kind, x=x, y=y, width=box, height=high, rx=5))
        middle = {"x": x + box / 2, "text_anchor": "middle"}
        label = cut_name(job.name, box - 6)
        parts.append(element("text", label, y=y + 16, class_="strong", **middle))
        told = f"{seconds(job.seconds)}{', earlier' if job.is_earlier else ''}"
        parts.append(element("text", told, y=y + 30, class_="tick", **middle))
    last, side = (len(ranks) - 1) * along, (most - 1) * across
    size = (side + box, last + high) if downwards else (last + box, side + high)
    return drawing(size[0] + 2, size[1] + 2, "which job follows which", parts)


def _edge(
    start: tuple[float, float], end: tuple[float, float], box: float, high: float, downwards: bool
) -> Markup:
    """Draw a line from one job to the next."""
    if downwards:
        (x0, y0), (x1, y1) = (start[0] + box / 2, start[1] + high), (end[0] + box / 2, end[1])
        bend = (y0 + y1) / 2
        line = f"M{x0:g} {y0:g}C{x0:g} {bend:g} {x1:g} {bend:g} {x1:g} {y1:g}"
    else:
        (x0, y0), (x1, y1) = (start[0] + box, start[1] + high / 2), (end[0], end[1] + high / 2)
        bend = (x0 + x1) / 2
        line = f"M{x0:g} {y0:g}C{bend:g} {y0:g} {bend:g} {y1:g} {x1:g} {y1:g}"
    return element("path", class_="edge", d=line)


def _margin(names: Iterable[str]) -> float:
    return min(200.0, LETTER_PX * max(map(len, names), default=0) + 12)


def _seconds_axis(
    end: float, left: float, scale: float, high: float | int, wide: float | int
) -> list[Markup]:
    parts: list[Markup] = []
    for tick in ticks(end, 4 if wide >= ROOMY else 2):
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
