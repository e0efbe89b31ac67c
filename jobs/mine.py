"""Job `mine`: rounds of hard negatives, each one pass over the shards for all classes."""

from functools import partial
from typing import Any

from jobs import train
from jobs.context import Context
from pipeline.config import Recipe
from pipeline.learning import classifiers as saved
from pipeline.learning.mining import FitStats, MineStats, mine_shard


def run(context: Context) -> dict[str, Any]:
    """Write the classifiers after the recipe's rounds, and what each round did."""
    spec = train.mining_spec(context)
    shards = {record.shard_id: record.shard_id for record in spec.store.records}
    before = context.inputs["train"]
    known = saved.load(before)
    stats = [FitStats(**each) for each in known.training["classes"]]
    fits = [before / train.FITS / "fit"] * len(spec.classes)
    caches = before / train.CACHES
    settings, history = context.recipe.mining, []
    limit = settings.max_rounds if settings.rounds == "converged" else settings.rounds
    for number in range(1, limit + 1):
        label = f"round-{number:02d}"
        after = context.folder / train.CACHES / label
        mine = partial(mine_shard, spec, before=caches, after=after, classifiers=known)
        mined = list(context.map(label, mine, shards, MineStats).values())
        gained = [sum(each) for each in zip(*(stats.gained for stats in mined), strict=True)]
        evicted = [sum(each) for each in zip(*(stats.evicted for stats in mined), strict=True)]
        # A class that gained nothing has its optimum: what was evicted had no part in it.
        changed = [k for k, new in enumerate(gained) if new]
        fitted = train.fit(context, spec, f"{label}-fit", after, known.scale, changed)
        for k, done in fitted.items():
            stats[k], fits[k] = done, context.folder / train.FITS / f"{label}-fit"
        known, caches = train.save(context, spec, known.scale, fits, stats), after
        history.append({"gained": sum(gained), "evicted": sum(evicted), "refitted": len(changed)})
        if not changed:
            break
    if not limit:
        train.save(context, spec, known.scale, fits, stats)
    converged = bool(history) and history[-1]["gained"] == 0
    return {
        "rounds": len(history),
        "converged": str(converged).lower(),
        "gained": sum(each["gained"] for each in history),
        "negatives": sum(each.negatives for each in stats),
        "objective": sum(each.objective for each in stats),
        "history": history,
    }


def reads(recipe: Recipe) -> Any:
    """Return the settings of mining."""
    return recipe.mining.model_dump(mode="json")


if __name__ == "__main__":
    from jobs.cli import main

    main("mine")
