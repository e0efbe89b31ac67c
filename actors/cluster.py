"""What the cluster has now: machines, what is free on them, and whether more may come."""

import json
import time
from collections.abc import Collection, Mapping

import ray
from ray._private import state  # the only place that tells what is free, and who is drained
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

from actors.policy import fits
from pipeline.errors import RecipeError

STATUS_S = 10  # a cluster's monitor reports every 5 s, and is up a little after the cluster
_STATUS = "__autoscaling_status"
_UNMANAGED = "node_"  # Ray's name for the kind of a machine that nobody's configuration made


def alive() -> set[str]:
    """Return the ids of the machines that are there to stay: none that is being drained."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]} - drained()


def drained() -> set[str]:
    """Return the ids of the machines that are about to go, and take nothing more."""
    return set(state.state.get_draining_nodes())


def room(asked: Mapping[str, float]) -> int:
    """Return how many workers that ask for so much fit on the machines.

    Args:
        asked: by kind: CPU, GPU, memory (bytes).
    """
    return sum(fits(machine, asked) for machine in _machines())


def free_room(asked: Mapping[str, float], without: Collection[str] = ()) -> int:
    """Return how many fit into what nobody holds now.

    Args:
        asked: by kind: CPU, GPU, memory (bytes).
        without: machines that do not count.
    """
    free = _free().items()
    return sum(fits(machine, asked) for name, machine in free if name not in without)


def free_cpus() -> float:
    """Return how many CPUs nobody holds now."""
    return sum(machine.get("CPU", 0) for machine in _free().values())


def _free() -> Mapping[str, Mapping[str, float]]:
    present = alive()
    free: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
    return {name: machine for name, machine in free.items() if name in present}


def total(kind: str) -> float:
    """Return how much all machines have of a kind of resource."""
    return sum(machine.get(kind, 0) for machine in _machines())


def largest(kind: str) -> float:
    """Return how much the machine with most has of a kind of resource."""
    return max((machine.get(kind, 0) for machine in _machines()), default=0)


def cpus() -> int:
    """Return how many CPUs the cluster has now, at least one."""
    return max(1, int(total("CPU")))


def cpus_at_most(cpus: int) -> int:
    """Return what a task may reserve: more than one machine has would be waited for for ever."""
    return max(1, min(cpus, int(largest("CPU"))))


def gpus_for(gpus: float | None) -> float:
    """Return what a task may reserve; None: 1 where there are GPUs, else 0.

    Raises:
        RecipeError: no machine has as many, and none will come.
    """
    if gpus is None:
        return float(total("GPU") > 0)
    most = largest("GPU")
    if gpus > most and not can_grow(STATUS_S):
        raise RecipeError(
            f"gpus = {gpus:g}, and no machine of the cluster has more than {most:g}: lower it"
        )
    return gpus


def can_grow(patience_s: float = 0) -> bool:
    """Return whether an autoscaler looks after the cluster, so that waiting makes sense.

    Ray has no call that says so. Its monitor reports the kinds of machines: those that somebody
    started by hand are each a kind of their own, an autoscaler's have names of its configuration.

    Args:
        patience_s: for the monitor's first report; without one the answer is no.
    """
    end = time.monotonic() + patience_s
    while (kinds := _kinds()) is None and time.monotonic() < end:
        time.sleep(0.5)
    return any(not kind.startswith(_UNMANAGED) for kind in kinds or ())


def _kinds() -> list[str] | None:
    """Return the kinds of the machines; None while the monitor has not reported yet."""
    if is_autoscaler_v2():
        status = get_cluster_status(_address())
        known = [*status.active_nodes, *status.idle_nodes, *status.pending_nodes]
        return [node.ray_node_type_name for node in known]
    report: bytes | None = _internal_kv_get(_STATUS)
    if not report:
        return None
    told = json.loads(report).get("autoscaler_report")
    if told is None:  # the monitor is up, and has not looked at the machines yet
        return None
    return list((told["node_type_mapping"] or {}).values())


def _address() -> str:
    return ray.get_runtime_context().gcs_address


def _machines() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
