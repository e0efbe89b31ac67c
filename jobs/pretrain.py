"""Job `pretrain`: train the recipe's own network from nothing."""

from dataclasses import asdict
from functools import partial
from typing import Any

from jobs.context import Context
from jobs.network import WEIGHTS
from pipeline.config import Recipe
from pipeline.learning.pretrain_digits import PretrainSpec, PretrainStats, pretrain_digits


def run(context: Context) -> dict[str, Any]:
    """Write `network.safetensors`."""
    recipe = context.recipe
    spec = PretrainSpec(recipe.network, recipe.features.levels, recipe.pretrain, recipe.seed)
    train = partial(pretrain_digits, destination=context.folder / WEIGHTS)
    threads = recipe.pretrain.threads
    done = context.map("train", train, {"network": spec}, PretrainStats, cpus=threads)
    return asdict(done["network"])


def reads(recipe: Recipe) -> Any:
    """Return the network's shape and its training."""
    later = {"precision", "fc6_rank", "fc7_rank"}  # training is in float32, and on full layers
    network = recipe.network.model_dump(mode="json", exclude=later)
    training = recipe.pretrain.model_dump(mode="json")
    return [network, recipe.features.levels, training, recipe.seed]


if __name__ == "__main__":
    from jobs.cli import main

    main("pretrain")
