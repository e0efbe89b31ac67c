"""A recipe's network: how to load it, before and after fine-tuning, and its sizes."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.errors import RecipeError
from pipeline.extraction import NetworkSpec
from pipeline.learning.pretrain_digits import network_options
from pipeline.networks import (
    PRESETS,
    Network,
    added_head,
    architecture_of,
    code_digest,
    local_folder,
)
from pipeline.store.files import file_sha256

WEIGHTS = "network.safetensors"  # what `pretrain` and `finetune` leave
FC_UNITS = 4096  # paper §3.1
TRAINED_LATER = ("precision", "fc6_rank", "fc7_rank")  # training is in float32, on full layers


def network_spec(recipe: Recipe, pretrained: Path | None) -> NetworkSpec:
    """Return how to load the recipe's network, not fine-tuned.

    Args:
        recipe: of the run.
        pretrained: folder of the job `pretrain`; None: there is none, or it is not done.
    """
    settings = recipe.network
    options: dict[str, Any] = network_options(settings)
    added = None
    if not has_fc(recipe):
        units = options.pop("fc_units", FC_UNITS)
        begins = settings.weights == "pretrain" and pretrained is None  # else weights bring them
        if recipe.features.fine_tuned or begins:
            ways = len(class_names(recipe.dataset)) + 1
            added = added_head.description(units, recipe.features.levels, ways)
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
        added,
        settings.upto,
        code_digest(settings.name),
    )


def trained_spec(recipe: Recipe, folders: Mapping[str, Path]) -> NetworkSpec:
    """Return how to load the network that the recipe's features come from.

    Args:
        recipe: of the run.
        folders: of its jobs that are done; `pretrain` and `finetune` are looked for.
    """
    spec = network_spec(recipe, folders.get("pretrain"))
    if not recipe.features.fine_tuned:
        return spec
    return replace(spec, weights=folders["finetune"] / WEIGHTS, options={}, added=None)


def outline(recipe: Recipe) -> Network:
    """Return the recipe's network without its numbers: of weights only the record is read."""
    return network_spec(recipe, None).outline(PRESETS["imagenet_rgb"])


def has_fc(recipe: Recipe) -> bool:
    """Return whether the recipe's architecture has fc layers of its own."""
    return bool(architecture_of(recipe.network.name).fc_names)


def network_content(recipe: Recipe, *without: str) -> dict[str, Any]:
    """Return the recipe's settings of its network, and a digest of code that is a package's.

    Weights are left out: see `weights_content`.

    Args:
        recipe: of the run.
        without: further settings that do not matter.

    Raises:
        RecipeError: there is no such network, or a package that brings it is at fault.
    """
    left_out = {"weights", "sha256", *without}
    content = recipe.network.model_dump(mode="json", exclude=left_out, exclude_none=True)
    code = code_digest(recipe.network.name)
    return content if code is None else content | {"code": code}


def weights_content(recipe: Recipe) -> Any:
    """Return what the recipe's weights are: `random`, `pretrain`, or the digests of their files.

    Raises:
        RecipeError: they are not where the recipe says, or not what its `network.sha256` says.
    """
    weights, pinned = recipe.network.weights, recipe.network.sha256
    if not isinstance(weights, Path):
        return weights
    if not weights.exists():
        raise RecipeError(
            f"network.weights: there is no file {weights}; relative paths start from --data, or "
            "from where you are"
        )
    if weights.is_dir():
        content = {file.name: file_sha256(file) for file in local_folder.files(weights)}
        lines = (f"{digest}  {name}\n" for name, digest in content.items())
        held = sha256("".join(lines).encode()).hexdigest()
    else:
        content = held = file_sha256(weights)
    if pinned not in (None, held):
        raise RecipeError(
            f"network.sha256 is {pinned}, and {weights} has {held}: these are other weights than "
            "the recipe was written for; fetch them again, or give their digest if you trust them"
        )
    return content
