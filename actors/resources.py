"""Who takes what: the one table of resources, and how a run gets hold of a cluster."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import ray

from actors import cluster
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
    memory_bytes: int | None = None
    """None: nothing is reserved, and the machine's workers share what it has."""
    cpus_beside: int = 0
    """CPUs that it needs somewhere in the cluster, for tasks of its own."""

    @property
    def asked(self) -> dict[str, float]:
        """Amounts by Ray's names for them."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_bytes or 0}
        return {kind: amount for kind, amount in asked.items() if amount}

    def __str__(self) -> str:
        """What is asked for, in words."""
        return _told(self.asked)


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
    gpus = settings.gpus if settings.gpus is not None else float(cluster.total("GPU") > 0)
    beside = int(settings.decode == "cluster")  # one decodes what a GPU takes, or nearly
    return Resources(settings.cpus, gpus, settings.retries, settings.memory_bytes, beside)


def require_room(each: Resources) -> None:
    """Check that the cluster holds one worker of this size, or may grow until it does.

    Raises:
        RecipeError: it never will, and the worker would be waited for for ever.
    """
    short = _shortage(each)
    if short is not None and not cluster.can_grow(cluster.STATUS_S):
        raise RecipeError(f"extractor.{short}: lower it")


def _shortage(each: Resources) -> str | None:
    fields = {"CPU": "cpus", "GPU": "gpus", "memory": "memory_bytes"}
    for kind, asked in each.asked.items():
        most = cluster.largest(kind)
        if asked > most:
            text = f"and no machine of the cluster has more than {_number(most)} {_units(kind)}"
            return f"{fields[kind]} = {_number(asked)}, {text}"
    total = cluster.total("CPU")
    if not cluster.room(each.asked):
        return f"cpus = {each.cpus}, and no machine of the cluster has {each} together"
    if each.cpus + each.cpus_beside > total:
        return (
            f'cpus = {each.cpus}, and the cluster has {total:g} CPUs; with decode = "cluster" it '
            f"needs {each.cpus_beside} beside: decode in the actor, or"
        )
    return None


def in_words() -> str:
    """Return what the cluster has in all."""
    return _told({kind: cluster.total(kind) for kind in ("CPU", "GPU", "memory")})


def _told(amounts: Mapping[str, float]) -> str:
    told = [f"{amount:g} {_units(kind)}" for kind, amount in amounts.items() if kind != "memory"]
    if "memory" in amounts:
        told.append(f"{amounts['memory'] / 1e9:.3g} GB of memory")
    return ", ".join(told)


def _units(kind: str) -> str:
    return "bytes of memory" if kind == "memory" else f"{kind}s"


def _number(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 1e6 else f"{amount:g}"
