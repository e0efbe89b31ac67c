"""What was projected before a run, kept beside it: so that it can be held against what came."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.extractions import makes_store
from jobs.job import State, Step
from pipeline.config import Recipe
from pipeline.store.files import read_json, write_json

FILE = "projection.json"


def keep(
    runs: Path, recipe: Recipe, planned: Mapping[str, Step], projected: dict[str, Any]
) -> None:
    """Write the projection into the recipe's folder."""
    write_json(runs / recipe.name / FILE, {"features": _features(planned), "projected": projected})


def kept(runs: Path, recipe: Recipe, planned: Mapping[str, Step]) -> dict[str, Any] | None:
    """Return what was projected for these very features; None where nobody has planned them."""
    held = read_json(runs / recipe.name / FILE)
    if not isinstance(held, dict) or held.get("features") != _features(planned):
        return None
    return held.get("projected")


def is_extracted(planned: Mapping[str, Step]) -> bool:
    """Return whether the features are there: from then on a projection would come too late."""
    return all(step.state is State.done for step in _extracting(planned))


def _features(planned: Mapping[str, Step]) -> list[str]:
    """Folders named by everything that decides the features."""
    return [step.folder.name for step in _extracting(planned)]


def _extracting(planned: Mapping[str, Step]) -> list[Step]:
    """Return the jobs that make stores: one an image set and layer."""
    return [step for name, step in planned.items() if makes_store(name)]
