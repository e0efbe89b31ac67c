"""Several recipes in one DAG: what they have in common is done once, and their results combined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs import combine, dag, steps
from jobs.context import Context
from jobs.job import Job, Step
from pipeline.config import Recipe


@dataclass(frozen=True)
class Suite:
    """The jobs of several recipes, and where each one's are among them."""

    steps: dict[str, Step]
    """By names that no two have."""
    places: dict[str, dict[str, str]]
    """Of each recipe or combination the step of each job."""

    def step(self, member: str, job: str) -> Step:
        """Return where a job of a recipe or combination is done."""
        return self.steps[self.places[member][job]]


def plan(
    recipes: Mapping[str, Recipe], combinations: Mapping[str, Sequence[str]], runs: Path
) -> Suite:
    """Return all jobs with their folders; runs nothing.

    Args:
        recipes: by name.
        combinations: by name, each the names of recipes whose models are combined.
        runs: folder of all.

    Raises:
        RecipeError: a combination is of recipes that cannot be combined.
    """
    made = _Merged()
    for name, recipe in recipes.items():
        made.add(name, recipe, dag.plan(steps.jobs_of(recipe), recipe, runs))
    for name, members in combinations.items():
        models = {member: recipes[member] for member in members}
        combine.require_alike(models)
        scored = {}
        for member, recipe in models.items():
            scoring = combine.scoring(recipe)
            planned = dag.plan(steps.jobs_of(scoring), scoring, runs)
            detect = {job: planned[job] for job in dag.upstream(planned, ["detect"])}
            scored[member] = made.add(f"{member}, scored", scoring, detect)["detect"]
        made.join(name, recipes[members[0]], tuple(scored.values()), made.places[members[0]], runs)
    return Suite(made.steps, made.places)


class _Merged:
    """Steps of several plans; those that would leave the same folder are one."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.places: dict[str, dict[str, str]] = {}
        self._by_folder: dict[Path, str] = {}

    def add(self, member: str, recipe: Recipe, planned: Mapping[str, Step]) -> dict[str, str]:
        """Add a recipe's plan; return the step of each of its jobs."""
        places = self.places[member] = {}
        for name, step in planned.items():
            held = self._by_folder.get(step.folder)
            if held is None:
                held = self._by_folder[step.folder] = f"{member}: {name}"
                needs = {need: places[need] for need in step.job.needs}
                job = _renamed(replace(step.job, name=held), recipe, needs)
                self.steps[held] = replace(step, job=job)
            places[name] = held
        return places

    def join(
        self,
        name: str,
        recipe: Recipe,
        scored: tuple[str, ...],
        first: Mapping[str, str],
        runs: Path,
    ) -> None:
        """Add a combination, judged as its first member is."""
        combined = f"{name}: combine"
        judged = {
            "dataset_test": first["dataset_test"],
            "windows_test": first["windows_test"],
            "detect": combined,
        }
        reported = judged | {"evaluate": f"{name}: evaluate"}
        pooled = {each: each for each in (*scored, first["extract_test"])}
        work = partial(combine.run, scored, first["extract_test"])
        jobs = [
            _renamed(Job(combined, work, (), combine.reads, shares="combine"), recipe, pooled),
            *(
                _renamed(
                    replace(job, name=f"{name}: {job.name}", shares=job.name),
                    recipe,
                    reported if job.name == "report" else judged,
                )
                for job in steps.judging(())
            ),
        ]
        self.steps = dag.plan(jobs, recipe, runs, self.steps)
        own = {job.name.removeprefix(f"{name}: "): job.name for job in jobs}
        self.places[name] = own | judged


def _renamed(job: Job, recipe: Recipe, needs: Mapping[str, str]) -> Job:
    """Return a job of a recipe's that knows the jobs that it needs by other names than its code."""
    run = partial(_run_as, job.run, recipe, needs)
    return replace(job, run=run, needs=tuple(needs.values()))


def _run_as(
    run: Callable[[Context], dict[str, Any]],
    recipe: Recipe,
    needs: Mapping[str, str],
    context: Context,
) -> dict[str, Any]:
    """Run a job with its own recipe, and the folders that it needs under their plain names."""
    inputs = {plain: context.inputs[name] for plain, name in needs.items()}
    return run(replace(context, recipe=recipe, inputs=inputs))
