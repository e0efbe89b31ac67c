"""The states between the epochs of a training: one safetensors file each, never a pickle.

Tensors: weights, batch norm's where it helps, the momentum of each, and the random numbers that the
order of images comes from. Metadata: the plateau, and the colours.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import InputError
from pipeline.pretraining.colour import Colour
from pipeline.pretraining.schedule import Plateau
from pipeline.pretraining.training import Training
from pipeline.store.files import written_aside

_RANDOM, _MOMENTUM, _RECORD = "random", "momentum.", "training"


def save(states: Path, part: int, training: Training, colours: Colour | None) -> None:
    """Write how a training stands after a part, whole or not at all."""
    tensors: dict[str, Tensor] = {_RANDOM: training.random.get_state()}
    for name, tensor in training.trained.state_dict().items():
        tensors[name] = tensor.detach().cpu().contiguous()
    for name, parameter in training.trained.named_parameters():
        momentum = training.optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:  # else no loss depends on it
            tensors[_MOMENTUM + name] = momentum.detach().cpu().contiguous()
    record = {"plateau": asdict(training.plateau), "colours": colours and asdict(colours)}
    with written_aside(_path(states, part)) as aside:
        save_file(tensors, aside, {_RECORD: json.dumps(record, sort_keys=True)})


def restore(states: Path, part: int, training: Training) -> Colour | None:
    """Put a training where it stood after a part; return the colours that it goes by.

    Raises:
        InputError: the state is gone or damaged.
    """
    path = _path(states, part)
    try:
        with safe_open(path, framework="pt") as held:
            record = json.loads(held.metadata()[_RECORD])
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        training.random.set_state(tensors.pop(_RANDOM))
        training.plateau = Plateau(**record["plateau"])
        speeds = {k: tensors.pop(k) for k in [*tensors] if k.startswith(_MOMENTUM)}
        training.trained.load_state_dict(tensors)
        for name, parameter in training.trained.named_parameters():
            momentum = speeds.get(_MOMENTUM + name)
            if momentum is not None:
                # in the parameter's own order in memory, as the optimizer would have made it
                held_there = torch.empty_like(parameter.detach()).copy_(momentum)
                training.optimizer.state[parameter]["momentum_buffer"] = held_there
        return Colour.of(record["colours"])
    except (OSError, SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the state of a training {path} is absent or damaged ({error}): remove the folder "
            f"{states.parent}, and run the same command again; it begins anew"
        ) from None


def keep(states: Path, parts: Sequence[int]) -> None:
    """Remove the states of all other parts."""
    names = {_path(states, part).name for part in parts}
    for path in states.glob("*.safetensors"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def last(states: Path) -> int | None:
    """Return the last part of which there is a state; None where there is none."""
    return max((int(path.stem) for path in states.glob("*.safetensors")), default=None)


def _path(states: Path, part: int) -> Path:
    return states / f"{part:06d}.safetensors"
