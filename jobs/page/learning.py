"""How a run's network and classifiers were trained, as curves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.report import page


def learning(summaries: Mapping[str, Mapping[str, Any]]) -> list[page.Chart]:
    """Return how the network and the classifiers were trained, where there is a curve to show.

    Args:
        summaries: of all jobs.
    """
    return [*_trainings(summaries), *_mining(summaries.get("mine", {}).get("history") or [])]


def _trainings(summaries: Mapping[str, Mapping[str, Any]]) -> Iterator[page.Chart]:
    for job, what in (("pretrain", "Training from nothing"), ("finetune", "Fine-tuning")):
        told = summaries.get(job, {})
        parts = told.get("history") or []
        if len(parts) > 1:
            kept = float(told["chosen_step"]) if "chosen_step" in told else None
            lines = (
                _line("batches", parts, "step", "loss"),
                _line("held out", parts, "step", "held_loss"),
            )
            yield page.Chart(f"{what}: cross-entropy", "steps", lines, marked=kept)
            right = (_line("held out", parts, "step", "held_accuracy"),)
            named = f"{what}: share right of what is held out"
            yield page.Chart(named, "steps", right, highest=1.0, marked=kept)
        if losses := told.get("losses"):
            epochs = [{"epoch": k, "loss": loss} for k, loss in enumerate(losses, 1)]
            line = _line("mean of an epoch", epochs, "epoch", "loss")
            yield page.Chart(f"{what}: cross-entropy", "epochs", (line,))


def _mining(history: Sequence[Mapping[str, Any]]) -> Iterator[page.Chart]:
    rounds = [{"round": k, **each} for k, each in enumerate(history, 1)]
    if len(rounds) > 1:
        lines = (
            _line("hard negatives found", rounds, "round", "gained"),
            _line("easy ones dropped", rounds, "round", "evicted"),
        )
        yield page.Chart("Mining", "rounds", lines)


def _line(name: str, parts: Sequence[Mapping[str, Any]], along: str, up: str) -> page.Line:
    """Return a line through those parts of which the number is known."""
    points = ((float(each[along]), float(each[up])) for each in parts if each.get(up) is not None)
    return page.Line(name, tuple(point for point in points if math.isfinite(point[1])))
