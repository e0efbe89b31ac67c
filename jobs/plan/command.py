"""`spp plan`: what a recipe will take, before anything runs; and afterwards, how true that was."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import dag, memory, show, steps
from jobs.execution import DONE, QUARANTINED, execute
from jobs.job import Step
from jobs.options import (
    DataOption,
    JsonOption,
    RecipeArgument,
    RunsOption,
    SetOption,
    StoresOption,
    load,
)
from jobs.plan import hours, measured, probing, record, screen, space, stores
from jobs.plan.projection import Projection, project
from pipeline.config import Recipe
from pipeline.errors import RecipeError

ProbeOption = Annotated[
    bool, typer.Option("--probe", help="Measure a few images on this machine: half a minute.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Workers to plan for; default: what this machine holds.")
]
PriceOption = Annotated[
    float | None, typer.Option(min=0, help="US dollars that a worker costs an hour.")
]
SecondsOption = Annotated[
    float | None,
    typer.Option(min=1e-6, help="Seconds that a worker takes for an image, instead of a probe."),
]


def plan(
    recipe: RecipeArgument,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    probe: ProbeOption = False,
    workers: WorkersOption = None,
    price: PriceOption = None,
    seconds_per_image: SecondsOption = None,
    stores_: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a recipe will take before it runs.

    Images, windows, shards, disk, memory and workers; after a run, how true that was.

    Examples:
        spp plan mine.toml
        spp plan mine.toml --probe --workers 64 --price 0.04   # hours and cost, from images here
    """
    known, runs = load(recipe, set_, data), runs.resolve()
    code = execute([known], [steps.targets(known, "dataset")], runs, serial=True)
    if code not in (DONE, QUARANTINED):
        raise typer.Exit(code)
    planned = dag.plan(steps.jobs_of(known), known, runs)
    projection = project(known, planned)
    warning, refusal = _hold(known, planned, projection, runs, stores_)
    largest = projection.worker.largest
    asked = probe and refusal is None
    probed = probing.run_probe(known, planned, largest, runs) if asked else {}
    answer = {
        "recipe": known.name,
        **_stores(known, projection),
        **_projected(known, planned, projection, runs, probed, seconds_per_image),
        "measured": measured.read_measured(planned),
        "free_bytes": space.free_bytes(runs),
        "runs": str(runs),
        "warning": warning,
        "refused": None if refusal is None else str(refusal),
        "allowed_bytes": memory.allowed_bytes(known.extractor),
        "memory_is_given": known.extractor.memory_bytes is not None,
        "fit_bytes": memory.fit_bytes(known),
    }
    answer["hours"] = _hours(known, answer, projection.work, workers, price)
    if as_json:
        show.print_json(answer)
    else:
        show.say("\n".join(screen.lines(answer)))
    if refusal is not None:
        raise refusal
    raise typer.Exit(code)


def _hold(
    recipe: Recipe,
    planned: Mapping[str, Step],
    projection: Projection,
    runs: Path,
    stores_: str | None,
) -> tuple[str | None, RecipeError | None]:
    """Hold memory and disk against what there is; return a warning, and why it should not run."""
    try:
        if not record.is_extracted(planned):
            memory.refuse(projection.worker, recipe.extractor)
        return space.check_space(projection.stages, planned, runs, stores_), None
    except RecipeError as error:  # told after the figures that it is about
        return None, error


def _stores(recipe: Recipe, projection: Projection) -> dict[str, Any]:
    return {
        "store": recipe.features.store,
        "stores": [stores.rows_of(each) for each in projection.stores],
        "recommended": stores.recommend(recipe, projection.stores),
    }


def _projected(
    recipe: Recipe,
    planned: Mapping[str, Step],
    projection: Projection,
    runs: Path,
    probed: Mapping[str, Any],
    seconds_per_image: float | None,
) -> dict[str, Any]:
    """Return what is projected; once the features are there, what was projected before them."""
    before = record.kept(runs, recipe, planned)
    rates = _rates(probed, seconds_per_image, before or {})
    if not record.is_extracted(planned):
        fresh = projection.for_programs() | rates
        record.keep(runs, recipe, planned, fresh)
        return {"projected": fresh, "projected_when": "before the run"}
    if before is not None:
        return {"projected": {**before, **rates}, "projected_when": "before the run"}
    return {"projected": projection.for_programs() | rates, "projected_when": "after the run"}


def _rates(
    probed: Mapping[str, Any], seconds_per_image: float | None, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a worker takes: as told, as probed now, or as it was probed before."""
    if seconds_per_image is not None:
        told = hours.Rates(seconds_per_image, None, 0.0, "as told, for features alone")
        return {"rates": asdict(told), "probe": None}
    if probed:
        return {"rates": asdict(probing.rates(probed)), "probe": probed}
    return {"rates": before.get("rates"), "probe": before.get("probe")}


def _hours(
    recipe: Recipe,
    answer: Mapping[str, Any],
    work: hours.Work,
    workers: int | None,
    price: float | None,
) -> dict[str, Any] | None:
    """Return hours with one worker, with this machine's, and with so many; None without rates."""
    held, took = answer["projected"]["rates"], answer["measured"].get("extract_s")
    if held is not None:
        rates = hours.Rates(**held)
    elif took is not None:
        rates = hours.Rates(took, None, 0.0, "as the run took, for features alone")
    else:
        return None
    counts = sorted({1, workers or memory.workers_here(recipe.extractor)})
    cpus = recipe.extractor.cpus
    each = [hours.project_hours(work, rates, count, cpus, price) for count in counts]
    return {
        "source": rates.source,
        "useful_workers": work.shards,
        "for": [asdict(done) | {"total_s": done.total_s} for done in each],
    }
