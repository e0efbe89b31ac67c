"""What classifiers came to, as a table and pictures."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline import index
from pipeline.classification.judging import JUDGED
from pipeline.classification.predictions import PREDICTIONS, read_predictions
from pipeline.evaluation.answers import Answers
from pipeline.evaluation.classification import known_mean
from pipeline.images import MAX_PIXELS, loader
from pipeline.report import classification as report
from pipeline.report.page import image_results, kept, per_object
from pipeline.report.tables import percent
from pipeline.store.files import read_json


@dataclass(frozen=True)
class ReportSpec:
    """What is to be drawn of how classifiers did."""

    judged: tuple[Path, ...]
    """Folders that `judge` or `judge_split` wrote."""
    images: Path
    """The dataset's table of them."""
    classes: tuple[str, ...]
    mistakes: int
    method: str
    max_pixels: int = MAX_PIXELS
    """Of an image, as when it was extracted."""


@dataclass(frozen=True)
class PictureStats:
    """What `illustrate` drew."""

    mistakes: int
    """Images taken wrongly, of which those with the most confident answers are drawn."""


def illustrate(spec: ReportSpec, folder: Path) -> PictureStats:
    """Write `classes.txt`, `confusion.svg` and `.png`, and `mistakes.png`.

    Where images show several classes, a mistake is a class that an image does not show. For the
    page there are `results.json` and `per_object.parquet`: who runs the DAG should not have to hold
    all scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = [read_json(each / JUDGED) or {} for each in spec.judged]
    _write_table(spec, folder, told)
    single = all(each["confusion"] is not None for each in told)
    if single:
        total = np.sum([each["confusion"] for each in told], axis=0)
        right = f"{percent(np.trace(total) / max(total.sum(), 1))} % right"
        from pipeline.report.plots import plot_confusion, save_figure  # see there

        figure = plot_confusion(total, spec.classes, f"{total.sum():,} answers, {right}")
        save_figure(figure, folder / "confusion")
    wrong = _mistakes(_answers(spec), spec.classes)
    files = index.files(pq.read_table(spec.images))
    shown = [(files[image_id], caption) for image_id, caption in wrong[: spec.mistakes]]
    count = f"{len(shown)} of {len(wrong):,} images taken wrongly"
    title = f"{count} (shows → taken for), the most confident first"
    report.write_mistakes(folder / "mistakes.png", shown, title)

    per_object.keep(per_object.of_answers(_answers(spec), spec.classes, single), folder)
    gathered = image_results.gather(
        lambda: _answers(spec), told, spec.classes, loader(files, spec.max_pixels)
    )
    kept.keep(gathered, folder)
    return PictureStats(len(wrong))


def _answers(spec: ReportSpec) -> Iterator[Answers]:
    """Yield the answers of one split after the other."""
    for folder in spec.judged:
        yield read_predictions(folder / PREDICTIONS, spec.classes)


def _write_table(spec: ReportSpec, folder: Path, told: Sequence[dict[str, Any]]) -> None:
    ap = {name: known_mean([each["ap"][name] for each in told]) for name in spec.classes}
    own = None
    sentences = [f"AP by {spec.method}."]
    if told[0]["class_accuracy"] is not None:
        own = {name: known_mean([each["class_accuracy"][name] for each in told]) for name in ap}
        sentences.insert(0, "Right: images whose highest score is their class's.")
    if len(told) > 1:
        sentences.append(f"Means of {len(told)} random splits.")
    (folder / "classes.txt").write_text(report.format_classes(ap, own, sentences), "utf-8")


def _mistakes(splits: Iterable[Answers], classes: Sequence[str]) -> list[tuple[str, str]]:
    """Return images that were taken wrongly, with captions, the most confident answers first."""
    wrong: list[tuple[float, str, str]] = []
    for answers in splits:
        for row in np.flatnonzero(answers.wrong).tolist():
            caption = f"{answers.shown(row, classes)} → {answers.taken(row, classes)}"
            wrong.append((float(answers.margins[row]), answers.image_ids[row], caption))
    wrong.sort(key=lambda each: each[:2])
    worst: dict[str, str] = {}
    for _, image_id, caption in wrong:
        worst.setdefault(image_id, caption)  # several random splits may ask about it
    return list(worst.items())
