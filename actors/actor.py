"""An extractor's actor as the pool knows it, and what its death means."""

import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError

from actors import cluster
from actors.worker import Worker


@dataclass(eq=False)
class Actor:
    """An extractor and what it has in hand."""

    handle: Any
    asked_s: float = field(default_factory=time.monotonic)
    worker: Worker | None = None
    """None while it waits for room."""
    ready: ray.ObjectRef | None = None
    is_up: bool = False
    leaving: str = ""
    """Why it gets no more work, and ends with what it has in hand."""
    flights: dict[ray.ObjectRef, Any] = field(default_factory=dict)


def is_machine_gone(actor: Actor, error: Exception) -> bool:
    """Return whether an actor died with its machine, or is out of reach."""
    if isinstance(error, ActorUnavailableError):
        return True
    if isinstance(error, RayActorError) and error.preempted:
        return True
    return actor.worker is not None and actor.worker.machine not in cluster.alive()
