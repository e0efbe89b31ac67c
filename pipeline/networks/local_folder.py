"""A folder of weights as the Hugging Face hub lays it out: read, never fetched, never executed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import InputError
from pipeline.networks import weights
from pipeline.networks.preprocessing import Preprocessing
from pipeline.plain_files import read_text

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
MOST_JSON_BYTES, LONGEST_NAME = 1 << 24, 200
INDEX = "model.safetensors.index.json"  # of weights in several files
PREPROCESSING = "preprocessor_config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """How the network is built.

    Raises:
        InputError: no such folder or file, or it is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give one with {CONFIG} and {WEIGHTS}")
    return _read_json(folder / CONFIG)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights by name.

    Raises:
        InputError: there are none in safetensors, or they are damaged.
    """
    state: dict[str, Tensor] = {}
    for file in _weights_files(folder):
        state |= weights.read(file)[0]
    return state


def read_preprocessing(folder: Path) -> Preprocessing | None:
    """What the weights expect of their pixels; None: the folder does not say.

    Raises:
        InputError: what it says cannot be understood.
    """
    if not (folder / PREPROCESSING).is_file():
        return None
    said = _read_json(folder / PREPROCESSING)
    try:
        # The file says by what 0..255 is multiplied, if at all.
        scale = float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
        normalised = said.get("do_normalize", True)
        mean = tuple(map(float, said["image_mean"])) if normalised else (0.0, 0.0, 0.0)
        std = tuple(map(float, said["image_std"])) if normalised else (1.0, 1.0, 1.0)
        order = "BGR" if said.get("do_flip_channel_order", False) else "RGB"
        # 1/255 is written down rounded, and 1.0 is meant.
        return Preprocessing(order, round(scale * 255, 9), mean, std)  # pyright: ignore[reportArgumentType]
    except (KeyError, TypeError, ValueError, OverflowError, InputError) as error:
        raise InputError(
            f"{folder / PREPROCESSING} does not say what is done to pixels ({error!r}): set "
            "network.preprocessing"
        ) from error


def files(folder: Path) -> list[Path]:
    """The files that are read of a folder: they decide what its network computes.

    Raises:
        InputError: the folder holds no weights.
    """
    found = [folder / name for name in (CONFIG, PREPROCESSING) if (folder / name).is_file()]
    return [*found, *_weights_files(folder)]


def _weights_files(folder: Path) -> Iterator[Path]:
    if (folder / WEIGHTS).is_file():
        yield folder / WEIGHTS
        return
    if not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pth"))
        raise InputError(
            f"{folder} has no {WEIGHTS}"
            + (f", but {others[0]}, a pickle, which could run what it likes" if others else "")
            + ": save the network as safetensors (save_pretrained does)"
        )
    names = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(each, str) for each in names.values()):
        raise InputError(f"{folder / INDEX} has no weight_map of file names: fetch it again")
    for name in sorted(set(names.values())):
        # Anything else could be a pickle, or lie elsewhere.
        if Path(name).name != name or not name.endswith(".safetensors") or len(name) > LONGEST_NAME:
            raise InputError(
                f"{folder / INDEX} names {name!r:.80}, which is no .safetensors of its folder"
            )
        yield folder / name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path, MOST_JSON_BYTES))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} has no {path.name}: a folder of weights has {CONFIG} and {WEIGHTS}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {type(found).__name__}, not names and values")
    return found
