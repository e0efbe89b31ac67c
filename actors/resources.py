"""Who takes what: the one table of resources, and how a run gets hold of a cluster."""

import os
from dataclasses import dataclass

import ray

# Only plans and statistics cross Ray, so a local store needs little more than Ray's minimum.
LOCAL_OBJECT_STORE_BYTES = 150_000_000


@dataclass(frozen=True)
class Resources:
    """What one worker reserves."""

    cpus: int = 1
    gpus: float = 0
    retries: int = 2
    """Times its work is tried again after the worker or its node died."""


def connect(address: str | None = None) -> None:
    """Join the cluster at `address`, or the one a submitted job runs in; else start one here."""
    if ray.is_initialized():
        return
    if address or os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
    )


def cluster_cpus() -> int:
    """Return how many CPUs the cluster has now."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def cluster_gpus() -> int:
    """Return how many GPUs the cluster has now."""
    return int(ray.cluster_resources().get("GPU", 0))
