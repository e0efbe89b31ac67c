"""What a run came to: the table of the first recipe, the figure of each, what was left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import show
from jobs.job import Step
from pipeline.config import Recipe


def summarise(
    recipes: Sequence[Recipe],
    plans: Sequence[Mapping[str, Step]],
    written: Path | None,
    before: Mapping[str, Mapping[str, Any]],
) -> None:
    """Print the table of the first recipe, the figure of each, and where to look.

    Args:
        recipes: that were run.
        plans: their jobs.
        written: the page about them.
        before: what runs beside them were judged to be, by what they are called.
    """
    for recipe, planned in zip(recipes, plans, strict=True):
        record = planned["evaluate"].record
        if record is None:
            continue
        classifies = recipe.task == "classification"
        if planned is plans[0]:
            shown, *more = _results(planned, classifies)
            if shown.is_file():  # of classification it comes with the report
                if len(plans) > 1:
                    show.say(f"{recipe.name}:")
                show.say(shown.read_text(encoding="utf-8").rstrip("\n") + "\n")
            for file, what in more:
                if file.is_file():
                    show.say(f"{what}: {near(file)}")
            if written is not None:
                show.say(f"all of it, as a page: {near(written)}")
            show.say("")
            for name, told in before.items():
                show.say(f"{name}: {_figures(told)}")
        show.say(f"{recipe.name}: {_figures(record['summary'])}")


def near(file: Path) -> Path:
    """Return a file from where people are, if it is below."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _results(planned: Mapping[str, Step], classifies: bool) -> tuple[Any, ...]:
    """Return the file to print, and files to look at with what they are."""
    evaluate, report = planned["evaluate"].folder, planned["report"].folder
    if classifies:
        mistakes = (report / "mistakes.png", "the most confident mistakes")
        return (
            report / "classes.txt",
            (report / "confusion.png", "who is taken for whom"),
            mistakes,
        )
    diagnosis = (evaluate / "diagnosis.txt", "why it is so")
    return evaluate / "ap.txt", diagnosis, (report / "pictures" / "sheet.png", "pictures")


def _figures(summary: Mapping[str, Any]) -> str:
    """Return accuracy and mAP, with the deviation over random splits."""
    figures = []
    for name, told in (("mean_accuracy", "accuracy of the mean class"), ("mAP", "mAP")):
        value, spread = summary.get(name), summary.get(f"{name}_std")
        if value is not None:
            deviation = "" if spread is None else f" ± {spread:.3f}"
            figures.append(f"{told} {value:.3f}{deviation}")
    splits = f" ({summary['splits']} random splits)" if "splits" in summary else ""
    return ", ".join(figures or ["no mAP"]) + splits


def left_out(summaries: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Return why images were left out, by image set and id: ids of two sets may be equal.

    Args:
        summaries: of jobs, by their names.
    """
    return {
        (name.rpartition("_")[2], image_id): reason
        for name, summary in summaries.items()
        for kind in ("unreadable", "reasons")
        for image_id, reason in summary.get(kind, {}).items()
    }
