"""Who takes what: the one table of resources, and how a run gets hold of a cluster."""

import logging
import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import ray

from pipeline.config import Extractor
from pipeline.errors import InputError, RecipeError

# Only plans and statistics cross Ray, so a local store needs little more than Ray's minimum.
LOCAL_OBJECT_STORE_BYTES = 150_000_000
ANSWER_S = 10  # for a cluster to take a connection; Ray itself would try for minutes


@dataclass(frozen=True)
class Resources:
    """What one worker reserves."""

    cpus: int = 1
    gpus: float = 0
    retries: int = 2
    """Times its work is tried again after the worker or its node died."""


def connect(address: str | None = None) -> None:
    """Join the cluster at `address`, or the one a submitted job runs in; else start one here.

    Raises:
        InputError: no cluster answers at the address.
    """
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _join(address)
        return
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
    )


def _join(address: str) -> None:
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), ANSWER_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error}): give host:port of its head, or no "
            "address to start one here"
        ) from error


def placement(settings: Extractor) -> Resources:
    """Return what each extractor reserves on the cluster at hand."""
    gpus = settings.gpus if settings.gpus is not None else float(_total("GPU") > 0)
    return Resources(settings.cpus, gpus, settings.retries)


def room(each: Resources) -> int:
    """Return how many workers of this size the cluster holds.

    Raises:
        RecipeError: not even one, so that it would be waited for for ever.
    """
    for kind, asked in (("CPU", each.cpus), ("GPU", each.gpus)):
        if asked > _largest(kind):
            raise RecipeError(
                f"extractor.{kind.lower()}s = {asked:g}, and no machine of the cluster has more "
                f"than {_largest(kind):g} {kind}s: lower it"
            )
    return sum(
        int(min(node.get(kind, 0) // asked for kind, asked in _asked(each) if asked))
        for node in _nodes()
    )


def cpus_at_most(cpus: int) -> int:
    """Return what a task may reserve: more than one machine has would be waited for for ever."""
    return max(1, min(cpus, int(_largest("CPU"))))


def cluster_cpus() -> int:
    """Return how many CPUs the cluster has now."""
    return max(1, int(_total("CPU")))


def _asked(each: Resources) -> tuple[tuple[str, float], ...]:
    return (("CPU", each.cpus), ("GPU", each.gpus))


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _total(kind: str) -> float:
    return sum(node.get(kind, 0) for node in _nodes())


def _largest(kind: str) -> float:
    return max((node.get(kind, 0) for node in _nodes()), default=0)
