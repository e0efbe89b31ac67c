"""Lines of a table: what each row came to, and all of them as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs import suite
from jobs.table_file import TableFile, TableRow
from pipeline.evaluation.classification import known_mean, mean_and_spread
from pipeline.evaluation.top_errors import error_name
from pipeline.report.tables import markdown, percent


@dataclass(frozen=True)
class Line:
    """What a row came to."""

    name: str
    value: float | None
    """Of the table's measure."""
    spread: float | None
    """Its standard deviation over seeds or random splits, where there are several."""
    ap: dict[str, float | None]
    conv_s: float | None
    """Seconds an image, of one worker; None for combinations, and where a run before took them."""
    fc_s: float | None
    """Pooling, and the fc layers where there are some."""
    top5: float | None = None
    """Of errors, whose value is the top-1 error."""
    top5_spread: float | None = None


def line_of(planned: suite.Suite, row: TableRow, file: TableFile) -> Line:
    """Return what a row came to, of jobs that are done."""
    judged = [_summary(planned, name, file.jobs[0]) for name in file.members(row)]
    if row.view is None:
        measured = _over(judged, "mAP" if file.measure == "mAP" else "mean_accuracy")
        top5: tuple[float | None, float | None] = (None, None)
    else:
        measured, top5 = (_over(judged, error_name(k, row.view)) for k in (1, 5))
    aps = [each.get("ap", {}) for each in judged]
    means = {name: known_mean(each[name] for each in aps) for name in aps[0]}
    ap: dict[str, float | None] = {k: None if np.isnan(v) else v for k, v in means.items()}
    conv_s, fc_s = _seconds_an_image(planned, row, file)
    return Line(row.name, *measured, ap, conv_s, fc_s, *top5)


def _over(judged: Sequence[dict[str, Any]], known: str) -> tuple[float | None, float | None]:
    """Return a figure's mean over seeds and its spread; of one training that over its splits."""
    values = [each[known] for each in judged if each.get(known) is not None]
    if len(values) < len(judged):
        return None, None
    mean, spread = mean_and_spread(values)
    return mean, judged[0].get(f"{known}_std") if spread is None else spread


def _seconds_an_image(
    planned: suite.Suite, row: TableRow, file: TableFile
) -> tuple[float | None, float | None]:
    """Return the conv network's and the rest's, of the first member; None: nobody took them."""
    if row.combine or file.measure == "errors":
        return None, None
    first = file.members(row)[0]
    made = [job for job in ("extract_test", "extract_train") if job in planned.places[first]]
    store = _summary(planned, first, made[0])
    spent, images = store.get("worker_seconds", {}), store["images"] - store.get("taken_over", 0)
    if not store.get("worker", {}).get("seconds_per_image"):
        return None, None
    pooling = spent.get("pooling", 0.0) + spent.get("fc", 0.0)
    return spent.get("network", 0.0) / images, pooling / images


def _summary(planned: suite.Suite, member: str, job: str) -> dict[str, Any]:
    return (planned.step(member, job).record or {})["summary"]


def format_table(file: TableFile, lines: Sequence[Line]) -> str:
    """Return a table as Markdown: its measure and the paper's, seconds an image, and the ratio."""
    header, columns = [""], [[line.name for line in lines]]
    errors = file.measure == "errors"
    header.append("top-1 error" if errors else file.measure)
    decimals = 2 if errors else 1  # as the paper's Tables 1 and 2 have them
    columns.append([_value(line.value, line.spread, decimals) for line in lines])
    _add_paper(header, columns, [row.paper for row in file.rows], decimals)
    if any(line.top5 is not None for line in lines):
        header.append("top-5 error")
        columns.append([_value(line.top5, line.top5_spread, decimals) for line in lines])
        _add_paper(header, columns, [row.paper_top5 for row in file.rows], decimals)
    if any(line.conv_s is not None for line in lines):
        header += ["conv s/image", "pooling + fc s/image"]
        columns += [[_seconds(line.conv_s) for line in lines], [_seconds(x.fc_s) for x in lines]]
    if file.baseline is not None:
        base = next(_total(line) for line in lines if line.name == file.baseline)
        header.append(f"times as fast as {file.baseline}")
        columns.append([_ratio(base, _total(line)) for line in lines])
    if any(row.paper_s is not None for row in file.rows):
        header.append("paper s/image")
        columns.append([_seconds(row.paper_s) for row in file.rows])
    parts = [f"## {file.title}", markdown(header, list(zip(*columns, strict=True)))]
    if file.per_class:
        parts.append(_by_class(file, lines))
    told = {"mAP": "AP in percent", "accuracy": "Accuracy of the mean class, in percent"}.get(
        file.measure, "Images in percent whose class is not among the best of the network's scores"
    )
    if any(line.spread is not None for line in lines):
        over = f"the {len(file.seeds)} trainings" if len(file.seeds) > 1 else "random splits"
        told += f", ± its standard deviation over {over}"
    told += "."
    if any(line.conv_s is not None for line in lines):
        told += " Seconds are one worker's, by the clock, beside whatever else ran."
    parts.append(told)
    return "\n\n".join([*parts, file.note.strip()]).strip() + "\n"


def _by_class(file: TableFile, lines: Sequence[Line]) -> str:
    """Return the AP of each class, the paper's beside."""
    header, columns = ["class"], [[*map(str, lines[0].ap)]]
    for row, line in zip(file.rows, lines, strict=True):
        header.append(row.name)
        columns.append([_ap(line.ap.get(name)) for name in lines[0].ap])
        if row.paper_ap is not None:
            header.append("paper")
            columns.append([f"{each:.1f}" for each in row.paper_ap])
    return markdown(header, list(zip(*columns, strict=True)))


def _add_paper(
    header: list[str], columns: list[list[str]], figures: Sequence[float | None], decimals: int
) -> None:
    if any(figure is not None for figure in figures):
        header.append("paper")
        columns.append(
            ["" if figure is None else _as_printed(figure, decimals) for figure in figures]
        )


def _value(value: float | None, spread: float | None, decimals: int) -> str:
    if value is None:
        return _ap(None)
    told = "" if spread is None else f" ± {100 * spread:.{decimals}f}"
    return f"{100 * value:.{decimals}f}{told}"


def _as_printed(value: float, least: int) -> str:
    """Return a figure of the paper with so many decimals, or two where it has them."""
    return f"{value:.{least}f}" if round(value, 1) == value else f"{value:.2f}"


def _total(line: Line) -> float | None:
    return None if line.conv_s is None or line.fc_s is None else line.conv_s + line.fc_s


def _ratio(base: float | None, own: float | None) -> str:
    return f"{base / own:.1f}" if base and own else ""


def _seconds(spent: float | None) -> str:
    return "" if spent is None else f"{spent:.3f}"


def _ap(value: Any) -> str:
    return percent(math.nan if value is None else value)
