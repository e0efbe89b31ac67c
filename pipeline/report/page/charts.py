"""The drawings of the page: SVG with text to select, in the colours of its style sheet."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from pipeline.evaluation.precision import envelope
from pipeline.report.page.content import Chart, ClassAnswers, ClassResult
from pipeline.report.page.svg import LETTER_PX, ROOMY, cut_name, drawing, element, note, path, ticks
from pipeline.report.tables import percent

MOST_POINTS = 240  # of a curve: a chart is no wider
MOST_RUNS = 4  # that the style sheet has colours for


def class_bars(
    results: Sequence[Sequence[ClassResult | ClassAnswers]],
    means: Sequence[float],
    reference: Mapping[str, float],
    reference_mean: float | None,
    reference_name: str,
    measured: str = "average precision",
    wide: float | int = ROOMY,
) -> Markup:
    """The score of each class: a bar for each run, and a line where somebody else came to.

    Args:
        results: of each run, the same classes in the same order.
        means: of each run; dashed.
        reference: score by class; of those that it lacks there is no line.
        reference_mean: in the mean, likewise; None: not known.
        reference_name: whose that is.
        measured: what scores are.
        wide: of the drawing, px.
    """
    names = [each.name for each in results[0]]
    thick = 15 if len(results) == 1 else 9
    step = thick * len(results) + 9
    left = min(wide / 3, max(60, LETTER_PX * max(map(len, names), default=0) + 12))
    height = step * len(names) + 26
    scale = (wide - left - 48) / 100
    parts: list[Markup] = []
    for percents in range(0, 101, 20):
        x = left + percents * scale
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=0, y2=height - 22))
        told = f"{percents}"
        parts.append(element("text", told, class_="tick", x=x, y=height - 8, text_anchor="middle"))
    across = [("mean", f"mean run{run}", mean) for run, mean in enumerate(means)]
    if reference_mean is not None:
        across.append((reference_name, "reference whole", reference_mean))
    for whose, style, mean in across:
        if not math.isnan(mean):
            x, hint = left + 100 * mean * scale, element("title", f"{whose}: {percent(mean)}")
            ends = {"x1": x, "x2": x, "y1": 0, "y2": height - 22}
            parts.append(element("line", hint, class_=style, **ends))
    bars: list[Markup] = []  # over the figures' halo, which is over the lines
    for row, name in enumerate(names):
        top = row * step + 4
        middle = top + (step - 9) / 2
        label, hint = cut_name(name, left - 12), element("title", name)
        place = {"x": left - 8, "y": middle + 4, "text_anchor": "end"}
        parts.append(element("text", label, hint, **place))
        for run, held in enumerate(results):
            score = held[row].score
            y = top + run * thick
            width = 0.0 if math.isnan(score) else 100 * score * scale
            hint = element("title", f"{name}: {percent(score)}")
            size = {"x": left, "y": y, "width": width, "height": thick - 1.5}
            bars.append(element("rect", hint, class_=f"bar run{run}", **size))
            behind = {"x": left + width + 5, "y": y + thick / 2 + 3}
            parts.append(element("text", percent(score), class_="value", **behind))
        if name in reference:
            x = left + 100 * reference[name] * scale
            hint = element("title", f"{name}, {reference_name}: {percent(reference[name])}")
            ends = {"x1": x, "x2": x, "y1": top - 2, "y2": top + step - 7}
            bars.append(element("line", hint, class_="reference", **ends))
    return drawing(wide, height, f"{measured} of each class, in percent", [*parts, *bars])


def precision_recall(held: Sequence[ClassResult | ClassAnswers]) -> Markup:
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
    if all(each.no_curve for each in held):
        parts.append(note(held[0].no_curve, left + side / 2, 8 + side / 2))
    told = f"precision over recall of {held[0].name}"
    return drawing(left + side + 10, side + foot + 12, told, parts)


def curve_corners(
    recall: Float[np.ndarray, " ranked"], precision: Float[np.ndarray, " ranked"]
) -> tuple[tuple[float, float], ...]:
    """Return the corners of the steps that AP measures, few enough for a small chart.

    Args:
        recall: after each detection or image, best score first; nan where there is nothing to find.
        precision: likewise.
    """
    steps = np.flatnonzero(np.diff(recall, prepend=0.0) > 0)
    if not len(steps):
        return ()
    best = envelope(precision)
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
    if not points:
        return drawing(wide, high, told.title, [note("nothing was written down", 165, 85)])
    first = min(x for x, _ in points)
    last = max(x for x, _ in points)
    top = told.highest or 1.08 * max(y for _, y in points) or 1.0
    across, up = (wide - left - 10) / ((last - first) or 1), (high - 8) / top

    def place(x: float | int, y: float | int) -> tuple[float, float]:
        return left + (x - first) * across, high - min(y, top) * up

    parts: list[Markup] = []
    for height in ticks(top):
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
    return drawing(wide, high + foot - 12, told.title, parts)
