"""fc6, fc7 and fc8 over the pyramid of a network that has none of its own, such as a ResNet.

They come untrained: fine-tuning fills and trains them, and the network is saved with them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.errors import InputError, RecipeError
from pipeline.networks import initial
from pipeline.networks.head import Head
from pipeline.networks.network import Network

OPTION = "spp_head"
_KEYS = {"units", "levels", "classes"}


def description(units: int, levels: tuple[int, ...], classes: int) -> dict[str, Any]:
    """Return what a network records of its added layers, as its option `spp_head`."""
    return {"units": units, "levels": list(levels), "classes": classes}


def add(network: Network, described: Any) -> None:
    """Give a network fc layers, unfilled, and record them.

    Args:
        network: without fc layers.
        described: see `description`.

    Raises:
        RecipeError: the network has fc layers of its own, or the description is none.
    """
    if network.fc_names:
        raise RecipeError(f"{network.name} has fc layers of its own: leave out {OPTION}")
    units, levels, classes = _checked(described)
    length = network.channels * sum(level * level for level in levels)
    dtype = next(network.parameters()).dtype
    with torch.device("meta"):
        layers = nn.Linear(length, units), nn.Linear(units, units), nn.Linear(units, classes)
        head = Head(*layers).to(dtype)
    device = next(network.parameters()).device
    network.added_head = head if device.type == "meta" else head.to_empty(device=device)
    network.fc_names = {name: f"added_head.{name}" for name in ("fc6", "fc7")}
    network.levels = levels
    network.options[OPTION] = description(units, levels, classes)


def renew_classifier(network: Network, classes: int, seed: int) -> None:
    """Give a network with fc layers a new, untrained fc8 of so many classes, and record it.

    Raises:
        RecipeError: it has no fc layers.
    """
    head = network.head
    if head is None:
        raise RecipeError(f"{network.name} has no fc layers, and so no fc8")
    with torch.device("meta"):  # torch would fill it from its global random state
        fc8 = nn.Linear(head.units, classes)
    fc8 = fc8.to(network.dtype).to_empty(device=next(network.parameters()).device)
    initial.fill_classifier(fc8, seed)
    if network.added_head is None:
        network.set_submodule(network.classifier_name, fc8)
        network.options["classes"] = classes
    else:
        network.added_head.fc8 = fc8
        network.options[OPTION] = {**network.options[OPTION], "classes": classes}


def require_same(network: Network, described: Mapping[str, Any]) -> None:
    """Check that the fc layers that weights came with are those that were asked for.

    Raises:
        InputError: they have other units, or read another pyramid.
    """
    held = network.options[OPTION]
    for name in ("units", "levels"):
        if list(np.atleast_1d(held[name])) != list(np.atleast_1d(described[name])):
            raise InputError(
                f"these weights of {network.name} have fc layers with {name} = {held[name]}, and "
                f"{described[name]} is asked for: set network.fc_units and features.levels to what "
                "they have"
            )


def _checked(described: Any) -> tuple[int, tuple[int, ...], int]:
    if not isinstance(described, Mapping) or described.keys() != _KEYS:
        raise RecipeError(f"{OPTION} is {described!r}: give units, levels and classes")
    units, levels, classes = (described[name] for name in ("units", "levels", "classes"))
    numbers = [units, classes, *(levels if isinstance(levels, list | tuple) else [0])]
    if not levels or not all(type(number) is int and number >= 1 for number in numbers):
        raise RecipeError(f"{OPTION} is {described!r}: give whole numbers from 1")
    return units, tuple(levels), classes
