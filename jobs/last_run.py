"""What a recipe's name stands for in a run directory: its last run, and the one before."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs import dag, steps
from jobs.context import DONE
from jobs.job import Step
from pipeline.config import Recipe
from pipeline.errors import InputError
from pipeline.store.files import read_json, write_json

RUN, BEFORE = "run.json", "before.json"
LAST_JOB = "report"  # of a whole run


def write_run(
    runs: Path, recipe: Recipe, planned: Mapping[str, Step], targets: Iterable[str]
) -> None:
    """Write down which folders belong to this recipe, for `spp status` and for people.

    A whole run of other fields that was written down there is kept as the one before.
    """
    folder = runs / recipe.name
    if other := _whole_other(folder, planned):
        write_json(folder / BEFORE, other)
    content = {
        "recipe": json.loads(recipe.model_dump_json()),
        "jobs": _folders(planned),
        "wanted": dag.upstream(planned, targets),
    }
    write_json(folder / RUN, content)


def before(recipe: Recipe, runs: Path) -> tuple[Recipe, dict[str, Step]]:
    """Return the run before: its recipe, called as what it is, and its jobs.

    Args:
        recipe: as it is now.
        runs: the run directory.

    Raises:
        InputError: there is none, or it is not whole any more.
    """
    file = runs / recipe.name / BEFORE
    now = dag.plan(steps.jobs_of(recipe), recipe, runs)
    told = _whole_other(file.parent, now) or read_json(file)
    if told is None:
        raise InputError(
            f"there is no run before that of {recipe.name}: {file} appears when a recipe whose "
            "run is whole is run again with other fields"
        )
    planned: dict[str, Step] = {}
    try:
        recipe = Recipe.model_validate(told["recipe"])
        planned = dag.plan(steps.jobs_of(recipe), recipe, runs)
    except (KeyError, ValidationError):  # of another version
        pass
    gone = [name for name, step in planned.items() if step.record is None]
    if gone or not planned:
        job = gone[0] if gone else LAST_JOB
        raise InputError(
            f"the run before that of {recipe.name} is not whole any more: its job {job} was "
            f"removed, or is of another version; run it again with the fields in {file}"
        )
    return recipe.model_copy(update={"name": f"{recipe.name}, before"}), planned


def _folders(planned: Mapping[str, Step]) -> dict[str, str]:
    return {name: f"jobs/{step.folder.name}" for name, step in planned.items()}


def _whole_other(folder: Path, planned: Mapping[str, Step]) -> dict[str, Any] | None:
    """Return the last run, if it is whole and of other jobs."""
    last = read_json(folder / RUN) or {}
    jobs = last.get("jobs", {})
    ended = jobs.get(LAST_JOB)
    if ended is None or jobs == _folders(planned):
        return None
    return last if (folder.parent / ended / DONE).is_file() else None
