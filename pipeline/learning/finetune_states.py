"""What a part of a fine-tuning leaves for the next: weights, momentum, the inputs' scale."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import InputError
from pipeline.networks import Head
from pipeline.store.files import written_aside

_SCALE = "input_scale"


def keep(states: Path, parts: Sequence[int]) -> None:
    """Remove the states of all other parts."""
    names = {state_file(states, part).name for part in parts}
    for path in states.glob("*.safetensors"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def last(states: Path) -> int | None:
    """Return the last part of which there is a state; None where there is none."""
    return max((int(path.stem) for path in states.glob("*.safetensors")), default=None)


def save(path: Path, head: Head, optimizer: torch.optim.SGD, scale: float) -> None:
    """Write the layers, the optimizer's momentum, and by what inputs are multiplied."""
    tensors: dict[str, Tensor] = {_SCALE: torch.tensor(scale, dtype=torch.float64)}
    for name, parameter in head.named_parameters():
        momentum = optimizer.state[parameter]["momentum_buffer"]
        tensors[name] = parameter.detach().cpu().contiguous()
        tensors[f"momentum.{name}"] = momentum.detach().cpu().contiguous()
    with written_aside(path) as aside:
        save_file(tensors, aside)


def restore(path: Path, head: Head, optimizer: torch.optim.SGD | None = None) -> float:
    """Fill the layers, and the optimizer, from a state; return by what inputs are multiplied.

    Raises:
        InputError: the state is gone or damaged.
    """
    try:
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                parameter.copy_(tensors[name])
                if optimizer is not None:
                    momentum = tensors[f"momentum.{name}"].to(parameter.device)
                    optimizer.state[parameter]["momentum_buffer"] = momentum
        return float(tensors[_SCALE])
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(
            f"the state of fine-tuning {path} is absent or damaged ({error}): remove the folder "
            f"{path.parents[1]}, and run the same command again; it begins anew"
        ) from None


def state_file(states: Path, part: int) -> Path:
    """Return where the state that a part leaves lies."""
    return states / f"{part:06d}.safetensors"
