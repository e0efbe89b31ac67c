"""What a recipe's name stands for in a run directory: its last run, and the whole ones.

`run.json` is the last one that was begun; `whole.json` the last that came to its end, and
`before.json` the whole one before it, whose fields, images or code were others.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs import dag, page, steps
from jobs.job import Step
from jobs.outputs import damage
from pipeline.config import Recipe
from pipeline.errors import InputError
from pipeline.store.files import read_json, write_json

RUN, WHOLE, BEFORE = "run.json", "whole.json", "before.json"


def write_run(
    runs: Path, recipe: Recipe, planned: Mapping[str, Step], targets: Iterable[str]
) -> None:
    """Write down which folders belong to this recipe, for `spp status` and for people."""
    wanted = {"wanted": dag.upstream(planned, targets)}
    write_json(runs / recipe.name / RUN, _content(recipe, planned) | wanted)


def keep_whole(runs: Path, recipe: Recipe, planned: Mapping[str, Step]) -> None:
    """Keep a run that is whole; another one that was kept becomes the one before."""
    folder = runs / recipe.name
    last = read_json(folder / WHOLE)
    if last is not None and last["jobs"] == _folders(planned):
        return
    if last is not None:
        write_json(folder / BEFORE, last)
    write_json(folder / WHOLE, _content(recipe, planned))


def before(recipe: Recipe, runs: Path) -> page.Run:
    """Return the last whole run of that name which was another one, from the folders it had.

    Args:
        recipe: as it is now.
        runs: the run directory.

    Raises:
        InputError: there is none, or it is not whole any more.
    """
    folder = runs / recipe.name
    now = _folders(dag.plan(steps.jobs_of(recipe), recipe, runs))
    kept = [read_json(folder / name) for name in (WHOLE, BEFORE)]
    told = next((each for each in kept if each is not None and each["jobs"] != now), None)
    if told is None:
        raise InputError(
            f"there is no whole run of {recipe.name} before this one in {runs}: run the recipe, "
            "change a field or the images, and ask again"
        )
    try:
        known = Recipe.model_validate(told["recipe"])
        planned = {
            job.name: Step(job, runs / told["jobs"][job.name]) for job in steps.jobs_of(known)
        }
    except (KeyError, ValidationError):
        raise InputError(
            f"the run of {recipe.name} before this one was made by a version of this program with "
            "other fields or jobs, and cannot be shown"
        ) from None
    for name, step in planned.items():
        record = step.record
        if record is None or damage(step.folder, record) is not None:
            raise InputError(
                f"the run of {recipe.name} before this one is not whole any more: {step.folder}, "
                f"its job {name}, was removed or damaged"
            )
    return page.Run(known, planned, f"{recipe.name}, before")


def _content(recipe: Recipe, planned: Mapping[str, Step]) -> dict[str, Any]:
    return {"recipe": json.loads(recipe.model_dump_json()), "jobs": _folders(planned)}


def _folders(planned: Mapping[str, Step]) -> dict[str, str]:
    return {name: f"jobs/{step.folder.name}" for name, step in planned.items()}
