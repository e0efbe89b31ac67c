"""A process of a cluster that work is given to, as people look for it."""

import os
from dataclasses import dataclass

import ray


@dataclass(frozen=True)
class Worker:
    """A process on a machine of the cluster."""

    machine: str
    """Ray's id of it."""
    address: str
    process: int

    def __str__(self) -> str:
        """Where to look for it."""
        return f"{self.address}:{self.process}"

    @classmethod
    def here(cls) -> "Worker":
        """Return the process that asks."""
        machine = ray.get_runtime_context().get_node_id()
        return cls(machine, ray.util.get_node_ip_address(), os.getpid())
