"""Tables of average precisions as text: readable in a terminal, and valid Markdown."""

import math
from collections.abc import Hashable, Mapping, Sequence

from pipeline.errors import InputError
from pipeline.evaluation import Evaluation
from pipeline.evaluation.diagnosis import KINDS, SIZES, ClassDiagnosis


def format_ap_table(
    evaluation: Evaluation, window_recall: Mapping[Hashable, float] | float | int | None = None
) -> str:
    """Average precision per class with the counts behind it, and the mean.

    Args:
        evaluation: from ``evaluate_detections``.
        window_recall: share of the objects that some candidate window covers, in 0..1: it bounds
            the recall of any detector that scores those windows. Per class, or one for all.

    Returns:
        A Markdown table with aligned columns. AP and recalls in percent; ``–`` where there is
        nothing to divide by.
    """
    per_class = window_recall if isinstance(window_recall, Mapping) else {}
    header = ["class", "AP", "objects", "found", "false", "recall"]
    header += ["windows"] if per_class else []
    rows = []
    for name, ap in evaluation.ap.items():
        curve = evaluation.curves[name]
        true = int(curve.true_positive.sum())
        row = [str(name), percent(ap), str(curve.positives), str(true)]
        row += [str(len(curve.scores) - true), percent(_share(true, curve.positives))]
        rows.append(row + ([percent(per_class.get(name, math.nan))] if per_class else []))
    mean = ["**mean**", f"**{percent(evaluation.mean_ap)}**"]
    rows.append(mean + [""] * (len(header) - len(mean)))
    text = markdown(header, rows) + "\n\n" + _caption(evaluation)
    if isinstance(window_recall, int | float) and not math.isnan(window_recall):
        text += f" The candidate windows cover {percent(window_recall)} % of the objects."
    return text + "\n"


def compare_runs(runs: Mapping[str, Evaluation]) -> str:
    """Average precisions of several runs side by side; the best of each row in bold.

    Args:
        runs: evaluations by the name of the run, in the order of the columns.

    Raises:
        InputError: no runs, or runs evaluated at different IoUs or by different methods.
    """
    settings = {(run.iou, run.method) for run in runs.values()}
    if len(settings) != 1:
        told = ", ".join(f"{name}: {run.method} at IoU {run.iou}" for name, run in runs.items())
        raise InputError(f"only runs evaluated alike compare ({told or 'no runs'})")
    names = dict.fromkeys(name for run in runs.values() for name in run.ap)
    rows = [
        [str(name), *_best_in_bold([run.ap.get(name, math.nan) for run in runs.values()])]
        for name in names
    ]
    rows.append(["**mean**", *_best_in_bold([run.mean_ap for run in runs.values()])])
    iou, method = settings.pop()
    return markdown(["class", *runs], rows) + f"\n\nAP in percent, {method}, IoU ≥ {iou:g}.\n"


def format_diagnosis(diagnosis: Mapping[Hashable, ClassDiagnosis]) -> str:
    """Why AP is what it is, in three tables: false detections, missed objects, and AP by size.

    Args:
        diagnosis: from ``pipeline.evaluation.diagnose``.

    Returns:
        Markdown. AP in percent, ``–`` where there is nothing to divide by.
    """
    best, without, missed = [], [], []
    for name, told in diagnosis.items():
        first = [str(name), percent(told.ap), str(told.positives)]
        best.append([*first, *map(str, told.best.values())])
        gains = [percent(ap - told.ap) for ap in told.ap_without.values()]
        without.append([*first[:2], *gains, *map(percent, told.ap_by_size.values())])
        counts = [f"{told.missed[size].missed} of {told.missed[size].objects}" for size in SIZES]
        bare = [told.missed[size].uncovered for size in SIZES]
        uncovered = "–" if None in bare else str(sum(each or 0 for each in bare))
        recall = math.nan if told.window_recall is None else told.window_recall
        missed.append([str(name), *counts, uncovered, percent(recall)])
    return "\n".join(
        [
            "Of the best detections of each class, as many as it has objects, are",
            "",
            markdown(["class", "AP", "objects", "true", *KINDS], best),
            "",
            "A localisation error overlaps an object of its class by 0.1 or more, or is a second "
            "one on it.",
            "",
            "AP would gain, without false detections of a kind; and AP by the size of objects",
            "",
            markdown(["class", "AP", *(f"+ {kind}" for kind in KINDS), *SIZES], without),
            "",
            "Objects that were missed, by size (the smallest 30 % of their class, the largest "
            "30 %, and those between)",
            "",
            markdown(["class", *SIZES, "no window there", "window recall"], missed),
            "",
        ]
    )


def percent(share: float) -> str:
    """A share in 0..1 as a percentage with one decimal, or a dash for nan."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _caption(evaluation: Evaluation) -> str:
    text = f"AP in percent, {evaluation.method}, IoU ≥ {evaluation.iou:g}."
    if evaluation.without_positives:
        names = ", ".join(map(str, evaluation.without_positives))
        text += f" Without objects to find, so not in the mean: {names}."
    return text


def _best_in_bold(values: Sequence[float]) -> list[str]:
    texts = [percent(value) for value in values]
    shown = [float(text) for text in texts if text != "–"]
    if len(values) < 2 or not shown:
        return texts
    best = f"{max(shown):.1f}"  # runs equal to the decimal shown are equally bold
    return [f"**{text}**" if text == best else text for text in texts]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return cells as an aligned Markdown table; all columns but the first are numbers."""
    table = [[cell.replace("|", r"\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[k]) for row in table)) for k in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(row, widths) for row in table]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "| " + " | ".join([first, *rest]) + " |"
