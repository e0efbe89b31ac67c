"""Jobs `pool5_train` and `pool5_test`: pool5 of the same windows beside a store of another layer.

Box regression reads pool5 whatever classifiers read (SPEC §8). A recipe whose layer is pool5 has it
already; and its store is this one, if the rest of the recipe agrees.
"""

from dataclasses import replace
from typing import Any

from jobs import extract
from jobs.context import Context
from pipeline.config import Recipe


def run(split: str, context: Context) -> dict[str, Any]:
    """Write a store of pool5, as `extract` does."""
    return extract.run(split, replace(context, recipe=beside(context.recipe)))


def reads(recipe: Recipe) -> Any:
    """Return what an extraction of pool5 reads."""
    return extract.reads(beside(recipe))


def name(recipe: Recipe, split: str) -> str:
    """Return the job that makes the recipe's store of pool5."""
    return f"extract_{split}" if recipe.features.layer == "pool5" else f"pool5_{split}"


def extractions(recipe: Recipe) -> dict[str, Recipe]:
    """Return the extractions of a recipe, by what their jobs begin with, each with its recipe."""
    apart = recipe.regression.enabled and recipe.features.layer != "pool5"
    return {"extract": recipe} | ({"pool5": beside(recipe)} if apart else {})


def beside(recipe: Recipe) -> Recipe:
    """Return the recipe for pool5: fc layers have no part in it."""
    return recipe.model_copy(
        update={
            "features": recipe.features.model_copy(update={"layer": "pool5"}),
            "network": recipe.network.model_copy(update={"fc6_rank": None, "fc7_rank": None}),
        }
    )
