"""What was learnt, as two files of data: arrays in safetensors, and in JSON what they belong to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from safetensors import safe_open

from pipeline import config
from pipeline.errors import InputError, SppError
from pipeline.store.files import read_json

Description = TypeVar("Description", bound=config.Section)


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Return arrays of a file by their names.

    Raises:
        InputError: the file is absent or damaged, lacks one of them, or one has other numbers than
            finite float32.
    """
    try:
        with safe_open(path, framework="np") as file:
            found = [file.get_tensor(name) for name in names]
    except (SppError, MemoryError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 - bfloat16, say, raises whatever NumPy does
        raise InputError(f"{path} cannot be read: {error}; make it again") from None
    for name, array in zip(names, found, strict=True):
        if array.dtype != np.float32:
            raise InputError(f"{path}: {name} has {array.dtype} where float32 is written")
        if wrong := int((~np.isfinite(array)).sum()):
            raise InputError(
                f"{path}: {name} has {wrong:,} of {array.size:,} numbers that are not finite: what "
                "was learnt with them is worth nothing; make it again"
            )
    return found


def read_description(path: Path, kind: type[Description], what: str) -> Description:
    """Return what the arrays belong to.

    Args:
        path: of the JSON file.
        kind: what it holds.
        what: what is learnt, in words.

    Raises:
        InputError: it is absent or damaged, or says something else.
    """
    held: Any = read_json(path)
    if not isinstance(held, dict):
        raise InputError(f"{path.parent} holds no {what}: {path.name} is absent or damaged")
    try:
        return kind.model_validate(held)
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{path} cannot be read: {reason}") from None
