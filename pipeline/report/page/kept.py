"""What a page shows, on disk: gathered where all scores are at hand, and read by whoever renders.

So that who runs the DAG does not have to hold them, and a page is written in a moment.
"""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from pipeline.errors import InputError
from pipeline.store.files import written_aside

RESULTS = "results.json"
Told = TypeVar("Told")


def keep(told: Any, folder: Path) -> None:
    """Write a dataclass of what the page shows into a folder, whole or not at all."""
    with written_aside(folder / RESULTS) as aside:
        # For us alone: JSON as Python has it, with NaN.
        aside.write_text(json.dumps(asdict(told)), encoding="utf-8")


def read(folder: Path, kind: type[Told]) -> Told:
    """Return what was kept, a dataclass of this kind.

    Raises:
        InputError: it is not there, or damaged.
    """
    file = folder / RESULTS
    try:
        return _adapter(kind).validate_python(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:  # of pydantic, too
        first = str(error).partition("\n")[0]
        raise InputError(
            f"{file} cannot be read ({first}): remove its folder, and run the recipe again"
        ) from None


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
