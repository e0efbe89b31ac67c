"""What becomes of one item, wherever it ran."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError


@dataclass(frozen=True)
class Outcome:
    """What became of one item: `error` is None where `result` counts."""

    key: str
    result: Any = None
    error: Exception | None = None


def outcome_of(ref: ray.ObjectRef, key: str) -> Outcome:
    """Return what came back; an error is the one that was raised, with the worker's traceback."""
    try:
        return Outcome(key, ray.get(ref))
    except RayTaskError as error:
        cause = error.cause
        cause.__cause__ = error
        return Outcome(key, error=cause)
    except RayError as error:
        return Outcome(key, error=error)
