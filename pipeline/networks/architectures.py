"""The architectures by name: ours, other libraries', and those that installed packages bring."""

from socket import gethostname
from typing import Any

import torch

from pipeline.errors import RecipeError
from pipeline.networks import installed
from pipeline.networks.backbone import Backbone
from pipeline.networks.network import Network
from pipeline.networks.resnet import ResNet18, ResNet50
from pipeline.networks.squeezenet import SqueezeNet
from pipeline.networks.timm_backbone import TimmBackbone
from pipeline.networks.transformers_backbone import TransformersBackbone
from pipeline.networks.vgg import VGG16
from pipeline.networks.zf5 import ZF5, PlainZF5

ARCHITECTURES: dict[str, type[Network]] = {
    "zf5": ZF5,
    "plain_zf5": PlainZF5,
    "vgg16": VGG16,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    "squeezenet1_1": SqueezeNet,
}

# Networks of other libraries. What they are is said by the folder that holds their weights.
BACKBONES: dict[str, type[Backbone]] = {
    "transformers": TransformersBackbone,
    "timm": TimmBackbone,
}


def architecture_of(name: str) -> type[Network]:
    """The class of that name.

    Raises:
        RecipeError: there is none, or a package that brings one is at fault.
    """
    known: dict[str, type[Network]] = {**ARCHITECTURES, **BACKBONES}
    if name in known:
        return known[name]
    if name in installed.names():
        return installed.installed(name)
    raise RecipeError(
        f"no network is called {name!r}: choose among {', '.join((*known, *installed.names()))}, "
        f"or install the package that brings it as an entry point of {installed.GROUP}"
    )


def code_digest(name: str) -> str | None:
    """A digest of the code of an architecture that is not ours to keep the same; None: it is ours.

    Raises:
        RecipeError: there is none of that name, or the package that brings it is at fault.
    """
    architecture_of(name)
    return None if name in ARCHITECTURES or name in BACKBONES else installed.code_digest(name)


def require_code(name: str, digest: str | None, wanted_by: str) -> None:
    """Require that a network's code is here as it was where something was planned or made.

    Args:
        name: of the network.
        digest: ``code_digest`` there; None asks nothing.
        wanted_by: what was planned or made.

    Raises:
        RecipeError: it is not, or not there at all.
    """
    if digest is not None and (here := code_digest(name)) != digest:
        raise RecipeError(
            f"network {name!r} has the code {str(here)[:12]} on {gethostname()}, and {wanted_by} "
            f"was made with {digest[:12]}: install the version of its package that it was made "
            "with, or make it again"
        )


def built(name: str, options: dict[str, Any]) -> Network:
    """A network of these options without numbers in it: its tensors take no memory.

    Raises:
        RecipeError: there is no such architecture, or it is a package's and cannot be used.
    """
    architecture = architecture_of(name)
    # torch fills new layers from its global random state; on the meta device it fills nothing.
    with torch.device("meta"):
        if _is_ours(architecture):
            return architecture(**options)
        said = f"network {name!r}, which is {architecture.__module__}.{architecture.__qualname__},"
        try:
            network = architecture(**options)
            called, _ = network.name, (network.geometry, network.channels)
        except Exception as error:  # others' code, and options that only it can judge
            raise RecipeError(
                f"{said} cannot be made with {options} ({type(error).__name__}: {error})"
            ) from error
    if called != name:  # weights are saved under it
        raise RecipeError(f"{said} calls itself {called!r}: let both names be one")
    return network


def require_options(name: str, options: dict[str, Any]) -> None:
    """Require that an architecture has these options, and ours that their values can be.

    Raises:
        RecipeError: it has not, or they cannot.
    """
    architecture = architecture_of(name)
    allowed = architecture.option_names()
    for option, value in options.items():
        if option not in allowed:
            raise RecipeError(f"{name} has no option {option!r}: it has {', '.join(allowed)}")
        if not _is_ours(architecture) or (option == "config" and isinstance(value, str)):
            continue
        smallest = 0 if option in ("conv1_padding", "stage") else 1
        numbers = value if option == "levels" else (value,)
        if option == "width":
            valid = isinstance(value, int | float) and 0 < value <= 16
        else:
            valid = len(numbers) > 0 and all(
                isinstance(number, int) and number >= smallest for number in numbers
            )
        if not valid:
            raise RecipeError(
                f"{name}: {option} is {value!r}: give "
                + ("a number in (0, 16]" if option == "width" else f"whole numbers from {smallest}")
            )


def _is_ours(architecture: type[Network]) -> bool:
    return architecture.__module__.startswith(f"{__package__}.")
