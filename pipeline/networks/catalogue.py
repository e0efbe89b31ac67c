"""``load`` makes a network of an architecture, ``outline`` tells its sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import InputError, RecipeError
from pipeline.networks import (
    added_head,
    front,
    initial,
    installed,
    local_folder,
    low_rank,
    weights,
)
from pipeline.networks.architectures import (
    ARCHITECTURES,
    BACKBONES,
    architecture_of,
    built,
    require_options,
)
from pipeline.networks.backbone import Backbone
from pipeline.networks.network import Network
from pipeline.networks.preprocessing import Preprocessing, preset

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(
    name: str,
    weights: Path | str | None = None,
    *,
    seed: int = 0,
    preprocessing: Preprocessing | str | None = None,
    precision: str = "float32",
    fc6_rank: int | None = None,
    fc7_rank: int | None = None,
    **options: Any,
) -> Network:
    """A network ready for extraction: evaluation mode, no gradients, on the CPU.

    What the caller says goes before what the weights record, and that before defaults. Weights
    without a record of their preprocessing are taken for the usual ones of their architecture:
    Caffe's BGR for zf5 and plain_zf5, torchvision's RGB for the others. Without weights, the
    preprocessing is torchvision's, whose unit-sized values suit untrained layers.

    Args:
        name: one of ``ARCHITECTURES`` or ``BACKBONES``, or of ``installed.names()``.
        weights: ``.safetensors``, ``.pth`` or ``.pt``; ``None`` leaves the network untrained. Of
            ``BACKBONES`` a folder as the library saved it, or what ``save`` made of one.
        seed: of the untrained weights.
        preprocessing: what the weights expect, or the name of a preset.
        precision: of weights and of all that is computed: `float32`, or `bfloat16`, which on CPUs
            with AMX takes a quarter to a third of float32's time; of an untrained ZF-5's pool5
            it loses 1%, of fc7 2% (relative L2 error). CPUs without AMX or AVX512-BF16 compute
            slowly in it. The network still takes float32 images and vectors, and casts them. Not
            recorded by ``save``.
        fc6_rank: singular values of fc6 that are kept (see ``low_rank``); none: what the weights
            have. Made from full weights in seconds for 4,096 units; weights that were saved
            with a rank are not decomposed again.
        fc7_rank: likewise, of fc7.
        options: the architecture's own; the number of classes follows from the weights.

    Raises:
        RecipeError: no such architecture, option, value or preset.
        InputError: the weights are damaged or do not fit.

    >>> load("zf5", width=0.25, fc_units=64, classes=11).channels
    64
    """
    require_options(name, options)
    if precision not in PRECISIONS:
        raise RecipeError(f"precision is {precision!r}: choose among {', '.join(PRECISIONS)}")
    if weights is None:
        network = built(name, options).made(seed)
        initial.fill(network, seed)
        network.preprocessing = preset("imagenet_rgb")
    else:
        network = _load_weights(name, Path(weights), options)
    for layer, rank in (("fc6", fc6_rank), ("fc7", fc7_rank)):
        _require_rank(network, layer, rank, fill=True)
    if preprocessing is not None:
        named = isinstance(preprocessing, str)
        network.preprocessing = preset(preprocessing) if named else preprocessing
    # Channels last: twice as quick on a CPU, and the order in which SPP vectors are laid out.
    network.to(dtype=PRECISIONS[precision], memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network.eval().requires_grad_(False)


def recognise(weights_file: Path | str) -> str:
    """The architecture that weights were saved from, by their record or their tensors' names.

    Args:
        weights_file: a file, or a folder of one of ``BACKBONES``.

    Raises:
        InputError: it is damaged, or of none that is known.
    """
    path = Path(weights_file)
    if path.is_dir():  # timm's describe themselves by the name of an architecture
        return "timm" if "architecture" in local_folder.read_config(path) else "transformers"
    names, recorded = weights.names_in(path)
    if recorded in (*ARCHITECTURES, *installed.names()):
        return str(recorded)
    for name, architecture in ARCHITECTURES.items():
        classifier = f"{architecture.classifier_name}."
        own = set(built(name, {}).state_dict())
        without = {each for each in own if not each.startswith(classifier)}
        if without <= names <= own:
            return name
    raise InputError(
        f"{path} holds tensors of none of {', '.join(ARCHITECTURES)}, and records no network that "
        "is installed: say which one it is, or rename its tensors"
    )


def outline(
    name: str,
    weights: Path | str | None = None,
    *,
    fc6_rank: int | None = None,
    fc7_rank: int | None = None,
    **options: Any,
) -> Network:
    """An architecture without numbers in it, for its sizes only: it cannot compute, nor be saved.

    Costs milliseconds, where ``load`` makes and fills the 138 million numbers of VGG-16, and
    refuses the options that ``load`` would.

    Args:
        name: one of ``ARCHITECTURES`` or ``BACKBONES``, or of ``installed.names()``.
        weights: a file whose recorded options hold where the caller says nothing, as in ``load``;
            or a folder.
        fc6_rank: as for ``load``.
        fc7_rank: likewise.
        options: the architecture's own.

    Raises:
        RecipeError: no such architecture, option or value.
        InputError: no such weights file, or one of another architecture.

    >>> outline("vgg16").layer_size("pool5")  # 512 channels, 7·7 bins
    25088
    """
    recorded = {} if weights is None else _recorded_in(name, Path(weights))
    network = _sized(name, recorded | options)
    for layer, rank in (("fc6", fc6_rank), ("fc7", fc7_rank)):
        _require_rank(network, layer, rank, fill=False)
    return network.eval().requires_grad_(False)


def _recorded_in(name: str, path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"config": _backbone(name, path).described(path)}
    return _recorded(name, weights.read_metadata(path), str(path))


def _load_folder(name: str, folder: Path, options: dict[str, Any]) -> Network:
    network = _sized(name, _recorded_in(name, folder) | options)
    assert isinstance(network, Backbone)
    network.take(local_folder.read_tensors(folder), str(folder))
    network.preprocessing = network.preprocessing_in(folder) or network.preprocessing
    return network


def _load_weights(name: str, path: Path, options: dict[str, Any]) -> Network:
    if path.is_dir():
        return _load_folder(name, path, options)
    state, metadata = weights.read(path)
    recorded = _recorded(name, metadata, str(path))
    scores = state.get(f"{architecture_of(name).classifier_name}.weight")
    if scores is not None and scores.ndim > 0:
        if not len(scores):
            raise InputError(f"{path} has a classifier of no class: fetch it again")
        recorded["classes"] = scores.shape[0]
    # Before any memory is taken: what a file records may be larger than all that it holds.
    network = _sized(name, recorded | options)
    weights.fit(network, state, str(path))
    network.preprocessing = weights.recorded_preprocessing(metadata) or network.preprocessing
    return network


def _recorded(name: str, metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    """The options that a file records. They make a network by themselves, or the file is at fault.

    What goes wrong once the caller's are put in their place is the caller's fault.
    """
    recorded = weights.recorded_options(metadata, name, source)
    if name in BACKBONES:  # a library that is not there is not the file's fault
        return recorded
    try:
        _sized(name, recorded)
    except (RecipeError, TypeError) as error:
        raise InputError(f"{source}: its recorded options are damaged ({error})") from error
    return recorded


def _sized(name: str, options: dict[str, Any]) -> Network:
    """The outline of the network of these options; ranks among them are those of its weights."""
    ranks = {f"{layer}_rank": layer for layer in low_rank.LAYERS}
    later = {*ranks, added_head.OPTION, front.OPTION}
    own = {option: value for option, value in options.items() if option not in later}
    require_options(name, own)
    network = built(name, own)
    if added_head.OPTION in options:
        added_head.add(network, options[added_head.OPTION])
    if front.OPTION in options:
        network = front.until(network, options[front.OPTION])
    for option, layer in ranks.items():
        rank = options.get(option)
        if rank is not None and type(rank) is not int:
            raise RecipeError(f"{option} is {rank!r}, no whole number")
        if rank is not None:
            low_rank.replace(network, layer, rank, fill=False)
    return network


def _require_rank(network: Network, layer: str, rank: int | None, *, fill: bool) -> None:
    """Truncate ``layer``, unless its weights were saved so."""
    held = network.options.get(f"{layer}_rank")
    if rank is None or rank == held:
        return
    if held is not None:
        raise RecipeError(
            f"{layer}_rank is {rank}, and these weights have {layer} at rank {held}: load the full "
            f"ones, or leave {layer}_rank out"
        )
    low_rank.replace(network, layer, rank, fill=fill)


def _backbone(name: str, folder: Path) -> type[Backbone]:
    architecture_of(name)
    if name not in BACKBONES:
        raise InputError(
            f"{folder} is a folder, and weights of {name} are a file: name the file, or set "
            f"network.name to {' or '.join(BACKBONES)}"
        )
    return BACKBONES[name]
