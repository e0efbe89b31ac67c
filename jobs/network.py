"""A recipe's network: how to load it, before and after fine-tuning, and its sizes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import networks
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.errors import RecipeError
from pipeline.extraction import NetworkSpec
from pipeline.learning.pretrain_digits import network_options
from pipeline.networks import ARCHITECTURES, Network, added_head

WEIGHTS = "network.safetensors"  # what `pretrain` and `finetune` leave
FC_UNITS = 4096  # paper §3.1


def network_spec(recipe: Recipe, pretrained: Path | None) -> NetworkSpec:
    """Return how to load the recipe's network, not fine-tuned."""
    settings = recipe.network
    options: dict[str, Any] = network_options(settings)
    if not has_fc(recipe):
        options.pop("fc_units", None)  # of the layers that fine-tuning adds
    weights = settings.weights if isinstance(settings.weights, Path) else None
    if settings.weights == "pretrain" and pretrained is not None:
        weights = pretrained / WEIGHTS
    elif weights is None and settings.name == "zf5":
        options["levels"] = recipe.features.levels  # fc6 is made to read this pyramid
    return NetworkSpec(
        settings.name,
        weights,
        recipe.seed,
        settings.preprocessing,
        options,
        settings.precision,
        settings.fc6_rank,
        settings.fc7_rank,
    )


def tuned_spec(recipe: Recipe, tuned: Path) -> NetworkSpec:
    """Return how to load the network that fine-tuning left in a folder."""
    return replace(network_spec(recipe, None), weights=tuned / WEIGHTS, options={})


def outline(recipe: Recipe) -> Network:
    """Return the recipe's network without its weights: sizes do not depend on them."""
    spec = network_spec(recipe, None)
    ranks = {"fc6_rank": spec.fc6_rank, "fc7_rank": spec.fc7_rank}
    options = dict(spec.options)
    if recipe.features.fine_tuned and not has_fc(recipe):
        ways = len(class_names(recipe.dataset)) + 1
        options[added_head.OPTION] = added_head.description(
            fc_units(recipe), recipe.features.levels, ways
        )
    return networks.outline(spec.name, spec.weights, **ranks, **options)


def fc_units(recipe: Recipe) -> int:
    """Return the units of the fc layers that fine-tuning adds to a network without them."""
    return recipe.network.fc_units or FC_UNITS


def has_fc(recipe: Recipe) -> bool:
    """Return whether the recipe's architecture has fc layers of its own."""
    return bool(architecture(recipe).fc_names)


def architecture(recipe: Recipe) -> type[Network]:
    """Return the recipe's architecture.

    Raises:
        RecipeError: there is none of that name.
    """
    if recipe.network.name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise RecipeError(f"no network is called {recipe.network.name!r}: choose among {known}")
    return ARCHITECTURES[recipe.network.name]
