"""Training classifiers on stores of whole images, and what they come to on others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from pipeline import config
from pipeline.classification.images import Images, random_split, read_images
from pipeline.classification.predictions import PREDICTIONS, write_predictions
from pipeline.evaluation.classification import Judged, judge_images, known_mean, mean_and_spread
from pipeline.learning import classifiers
from pipeline.learning.image_svms import fit_images, require_memory
from pipeline.store.files import write_json
from pipeline.store.reader import Store

JUDGED = "judged.json"
SCORED = 4096  # images whose vectors are in memory at a time, to be scored


@dataclass(frozen=True)
class TrainSpec:
    """What classifiers are trained on."""

    store: Store
    classes: tuple[str, ...]
    settings: config.Classification


@dataclass(frozen=True)
class TrainStats:
    """What `train` did."""

    images: int
    positives: int
    objective: float
    """The sum over classes."""


@dataclass(frozen=True)
class JudgeSpec:
    """What classifiers are judged by: images of their own, or random parts of one store."""

    store: Store
    classes: tuple[str, ...]
    settings: config.Classification
    method: str
    """Of average precision."""
    classifiers: Path | None = None
    """Folder of them; None: for each random split they are trained anew."""
    seed: int = 0


@dataclass(frozen=True)
class JudgeStats:
    """What classifiers came to on some images."""

    images: int
    mean_ap: float | None
    ap: dict[str, float | None]
    accuracy: float | None
    """Share of the images; None where some show several classes, or none."""
    top5: float | None
    mean_accuracy: float | None
    """Mean of the classes' shares."""
    class_accuracy: dict[str, float | None] | None


def train(spec: TrainSpec, folder: Path, threads: int = 1) -> TrainStats:
    """Fit classifiers to all images of a store, and write them into a folder."""
    known = read_images(spec.store, spec.classes)
    fitted = _fit(known, known.everyone, spec.store, spec.classes, spec.settings, threads)
    fitted.save(folder)
    objectives = [each["objective"] for each in fitted.training["classes"]]
    return TrainStats(len(known.image_ids), int((known.labels > 0).sum()), sum(objectives))


def judge(spec: JudgeSpec, folder: Path) -> JudgeStats:
    """Score the images of a store by classifiers; write `predictions.parquet`, and confusions."""
    known = read_images(spec.store, spec.classes)
    assert spec.classifiers is not None
    return _judge(classifiers.load(spec.classifiers), known, known.everyone, spec, folder)


def judge_split(spec: JudgeSpec, number: int, folder: Path, threads: int = 1) -> JudgeStats:
    """Divide a store at random, train on one part, and judge by another; as `judge` otherwise."""
    known = read_images(spec.store, spec.classes)
    learnt, asked = random_split(known, spec.classes, spec.settings, spec.seed, number)
    fitted = _fit(known, learnt, spec.store, spec.classes, spec.settings, threads)
    return _judge(fitted, known, asked, spec, folder)


def _fit(
    known: Images,
    learnt: Int[np.ndarray, " learnt"],
    store: Store,
    classes: Sequence[str],
    settings: config.Classification,
    threads: int,
) -> classifiers.Classifiers:
    length, row_bytes = store.spec.length, store.spec.row_bytes
    require_memory(len(learnt), length, len(classes), settings, len(learnt) * row_bytes)
    labels = known.labels[learnt]
    return fit_images(known.take(learnt), labels, classes, settings, store.made_from, threads)


def _judge(
    known: classifiers.Classifiers,
    images: Images,
    asked: Int[np.ndarray, " asked"],
    spec: JudgeSpec,
    folder: Path,
) -> JudgeStats:
    scorer = known.scorer()
    parts = [asked[start : start + SCORED] for start in range(0, len(asked), SCORED)]
    scores = np.concatenate([scorer(images.take(part)) for part in parts])
    labels, names = images.labels[asked], [images.image_ids[row] for row in asked]
    judged = judge_images(scores, labels, spec.classes, spec.method)
    write_predictions(folder / PREDICTIONS, names, labels, scores, spec.classes)
    write_json(folder / JUDGED, _plain(judged))
    ap = {name: _number(value) for name, value in judged.ap.items()}
    own = judged.class_accuracy
    return JudgeStats(
        len(asked),
        _number(judged.mean_ap),
        ap,
        judged.accuracy,
        judged.top5,
        judged.mean_accuracy,
        None if own is None else {name: _number(value) for name, value in own.items()},
    )


def summarise(done: Sequence[JudgeStats]) -> dict[str, Any]:
    """Return means over splits, and standard deviations where there are several."""
    summary: dict[str, Any] = {"images": sum(stats.images for stats in done)}
    if len(done) > 1:
        summary["splits"] = len(done)
    for name in ("mean_accuracy", "accuracy", "top5", "mean_ap"):
        values = [getattr(stats, name) for stats in done]
        known = [value for value in values if value is not None]
        told = "mAP" if name == "mean_ap" else name
        if known:
            summary[told], spread = mean_and_spread(known)
            summary |= {} if spread is None else {f"{told}_std": spread}
    means = {name: known_mean(each.ap[name] for each in done) for name in done[0].ap}
    return summary | {"ap": {name: _number(value) for name, value in means.items()}}


def _plain(judged: Judged) -> dict[str, Any]:
    fields = asdict(judged)
    confusion = judged.confusion
    fields["confusion"] = None if confusion is None else confusion.tolist()
    fields["ap"] = {name: _number(value) for name, value in judged.ap.items()}
    if judged.class_accuracy is not None:
        fields["class_accuracy"] = {k: _number(v) for k, v in judged.class_accuracy.items()}
    return fields


def _number(value: float) -> float | None:
    """JSON has no word for "not a number"."""
    return None if np.isnan(value) else float(value)
