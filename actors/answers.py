"""Ray's answers as outcomes."""

import ray
from ray.exceptions import RayError, RayTaskError

from actors.ledger import Outcome


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
