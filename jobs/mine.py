"""Job `mine`: rounds of hard negatives, each one pass over the shards for all classes."""

from dataclasses import asdict
from typing import Any

from jobs import train
from jobs.context import Context
from pipeline.config import Recipe
from pipeline.learning import rounds


def run(context: Context) -> dict[str, Any]:
    """Write the classifiers after the recipe's rounds, and what each round did."""
    spec = train.mining_spec(context)
    before = rounds.resume(spec, context.inputs["train"])
    trained, history = rounds.mine(spec, before, context.map, context.folder, context.runner.cpus)
    trained.classifiers.save(context.folder)
    converged = bool(history) and history[-1].gained == 0
    return {
        "rounds": len(history),
        "converged": str(converged).lower(),
        "gained": sum(each.gained for each in history),
        "negatives": sum(each.negatives for each in trained.stats),
        "objective": sum(each.objective for each in trained.stats),
        "history": [asdict(each) for each in history],
    }


def reads(recipe: Recipe) -> Any:
    """Return the settings of mining."""
    return recipe.mining.model_dump(mode="json")


if __name__ == "__main__":
    from jobs.cli import main

    main("mine")
