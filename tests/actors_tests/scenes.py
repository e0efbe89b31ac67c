"""Three machines in a process of their own, and what happens to them; says what came of it.

A process, and not a fixture: pytest's own is the driver of another cluster.
"""

import json
import socket
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.cluster_utils import Cluster

from actors import cluster, crew, pool, trust
from actors.extractor import Extractor
from actors.runner import RayRunner, Runner
from actors.serial import SerialRunner
from pipeline import config
from pipeline.extraction import ShardStats
from pipeline.store import ShardPlan
from pipeline.store.place import place
from tests.actors_tests.gated import Gated, gates
from tests.actors_tests.script import Script, Scripted, wait_until
from tests.actors_tests.scripted import plans
from tests.noise import dataset, finished

# Ray's own take 22 s to notice that a machine has gone.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
    "metrics_report_interval_ms": 1000,
}
STORE = {"object_store_memory": 80_000_000}
Events = list[tuple[float, str, dict[str, Any]]]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Machines:
    """The head without CPUs, and machines of one CPU that come and go."""

    def __init__(self) -> None:
        self.metrics_port = free_port()
        head = {
            **STORE,
            "num_cpus": 0,
            "include_dashboard": False,
            "dashboard_agent_listen_port": free_port(),  # Ray's own is the same for all clusters
            "metrics_export_port": self.metrics_port,
            "_system_config": HEALTH,
        }
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.known: list[Any] = []
        """Besides the head, the oldest first."""
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, **STORE)

    def kill(self, machine: Any) -> None:
        self.cluster.remove_node(machine, allow_graceful=False)


def extract(
    runner: Runner, spec: Any, shards: list[ShardPlan], events: Events, **settings: Any
) -> dict[str, str]:
    """Return what became of each shard, each answered once."""

    def note(kind: str, **fields: Any) -> None:
        events.append((time.monotonic(), kind, fields))

    found = {}
    for outcome in runner.extract(spec, shards, config.Extractor(**settings), note):
        assert outcome.key not in found, "a shard was answered twice"
        found[outcome.key] = "done" if outcome.error is None else str(outcome.error)
        if isinstance(outcome.result, ShardStats):
            note("shard_done", worker=outcome.result.worker)
    return found


def told(events: Events, kind: str) -> list[dict[str, Any]]:
    return [fields for _, each, fields in list(events) if each == kind]


def died(events: Events) -> set[str]:
    """Return who died that had a place: an heir may die on its way to a machine that is gone."""
    return {each["worker"] for each in told(events, "actor_died")} - {""}


def no_room_then_some(machines: Machines, folder: Path) -> dict[str, Any]:
    """No machine has a CPU; one comes when somebody has said so."""
    cluster.can_grow = lambda *_: True  # as where an autoscaler looks after it
    events: Events = []

    # Here the machines, there the run: Ray starts machines in a main thread only.
    with ThreadPoolExecutor() as beside:
        run = beside.submit(extract, RayRunner(), Script(folder), plans(*"ab"), events)
        wait_until(lambda: told(events, "waiting_for_room") != [], 30)
        machines.known.append(machines.add())
        return {"found": run.result(), "waited": told(events, "waiting_for_room")[0]}


def more_is_asked_for_than_has_room(machines: Machines, folder: Path) -> dict[str, Any]:
    """One machine of one CPU, and six shards: what an autoscaler sees, and brings."""
    script = Script(folder, {key: ["gate"] for key in "abcdef"})
    events: Events = []
    with ThreadPoolExecutor() as beside:
        run = beside.submit(extract, RayRunner(), script, plans(*"abcdef"), events, max_actors=2)
        wait_until(lambda: len(told(events, "actor_started")) == 1, 30)
        wait_until(lambda: waiting_actors(machines) == 1, 30)
        machines.known.append(machines.add())
        wait_until(lambda: len(told(events, "actor_started")) == 2, 60)
        wait_until(lambda: waiting_actors(machines) == 0, 30)  # there may be no third
        script.open()
        found = run.result()
    return {"found": found, "pids": len(script.pids()), "died": told(events, "actor_died")}


def waiting_actors(machines: Machines) -> int:
    """Return how many actors ask for a CPU in vain, as autoscalers are told."""
    demands = get_cluster_status(machines.cluster.address).resource_demands.ray_task_actor_demand
    return sum(each.count for demand in demands for each in demand.bundles_by_count)


def a_machine_is_drained(machines: Machines, folder: Path) -> dict[str, Any]:
    """Four shards in hand of two machines, of which one gets a minute to go."""
    cluster.can_grow = lambda *_: False
    script = Script(folder, {key: ["gate"] for key in "abcd"})
    events: Events = []
    with ThreadPoolExecutor() as beside:
        run = beside.submit(extract, RayRunner(), script, plans(*"abcdef"), events)
        for name in "abcd":
            script.pid(name)
        drained = machines.known.pop(0)
        preempted, end_ms = 2, int(time.time() * 1000) + 60_000
        client = GcsClient(address=machines.cluster.address)
        client.drain_node(drained.node_id, preempted, "spot", end_ms)
        wait_until(lambda: drained.node_id not in cluster.alive(), 10)
        time.sleep(2 * pool.WATCH_S)  # the pool has looked
        script.open()
        found = run.result()
    kinds = ("shard_retried", "actor_died", "actor_retired")
    by = [script.pid(name) for name in "ef"]
    return {"found": found, "by": by, **{kind: told(events, kind) for kind in kinds}}


def two_machines_killed(machines: Machines, folder: Path) -> dict[str, Any]:
    """Twenty shards; what is in flight waits at a gate while machines go and one comes."""
    names = [f"s{number:02d}" for number in range(20)]
    script = Script(folder, {key: ["gate"] for key in names[4:]})
    machines.known.append(machines.add())
    events: Events = []
    with ThreadPoolExecutor() as beside:
        run = beside.submit(extract, RayRunner(), script, plans(*names), events, retries=0)
        wait_until(lambda: script.count("s04") > 0 and len(told(events, "actor_started")) == 2, 60)
        machines.kill(machines.known.pop(0))
        wait_until(lambda: len(told(events, "actor_died")) == 1, 60)
        before = len(told(events, "actor_started"))
        machines.known.append(machines.add())
        wait_until(lambda: len(told(events, "actor_started")) > before, 60)
        joined = told(events, "actor_started")[-1]["worker"]
        machines.kill(machines.known.pop(0))
        wait_until(lambda: len(told(events, "actor_died")) == 2, 60)
        script.open()
        found = run.result()
    return {
        "found": found,
        "joined": joined,
        "pids": sorted(script.pids()),
        "died": len(told(events, "actor_died")),
        "retried": sorted({each["shard_id"] for each in told(events, "shard_retried")}),
    }


def a_sick_machine(machines: Machines, folder: Path) -> dict[str, Any]:
    """Two machines of one CPU. On one all fails, until a third one comes."""
    machines.known.append(machines.add())
    early, late = ([f"{part}{number:02d}" for number in range(16)] for part in ("e", "l"))
    says = {name: ["short"] for name in (*early, *late)}
    says |= {name: ["gate"] for name in "gh"} | {name: ["second gate"] for name in "yz"}
    script = Script(folder, says, sick_machine=machines.known[0].node_id)
    names, events = [*early, *"gh", *late, *"yz"], list[Any]()
    with ThreadPoolExecutor() as beside:
        run = beside.submit(extract, RayRunner(), script, plans(*names), events, min_actors=2)
        wait_until(lambda: len(told(events, "actor_started")) == 3, 60)  # the first one's heir
        script.open()
        wait_until(lambda: len(told(events, "actor_sick")) == 2, 60)
        wait_until(lambda: waiting_actors(machines) == 1, 30)  # though a place is free
        machines.known.append(machines.add())
        wait_until(lambda: len(told(events, "actor_started")) == 4, 60)
        script.open("second gate")
        found = run.result()
    ids = [machine.node_id for machine in machines.known]
    started = [ids.index((folder / f"machine-{number}").read_text()) for number in range(4)]
    return {"found": found, "started": started, "sick": len(told(events, "actor_sick"))}


def nothing_starts_on_a_machine(machines: Machines, folder: Path) -> dict[str, Any]:
    """On one machine of three no worker starts, while those on the others are still loading."""
    dead = machines.known[0].node_id
    script = Script(folder, {"start": ["gate"]}, dead_machine=dead)
    events: Events = []
    with ThreadPoolExecutor() as beside:
        run = beside.submit(extract, RayRunner(), script, plans(*"abcdef"), events, retries=0)
        wait_until(lambda: told(events, "machine_barred") != [], 60)
        time.sleep(4 * pool.WATCH_S)  # one that starts there yet would be the last straw
        script.open()
        found = run.result()
    kinds = ("machine_barred", "actor_died")
    return {"found": found, "dead": dead, **{kind: told(events, kind) for kind in kinds}}


def same_bytes(machines: Machines, folder: Path) -> dict[str, Any]:
    """The same shards by one process and by three machines, some of which die at work."""
    names = [f"{number:02d}" for number in range(12)]
    shards = [ShardPlan(f"{n:05d}", tuple(names[n * 2 : n * 2 + 2]), 14, 1) for n in range(6)]
    base, told_by = dataset(folder), dict[str, Events]()
    made: dict[str, dict[str, str]] = {}

    def run(name: str, runner: Runner, killed: int = 0, **settings: Any) -> None:
        spec = replace(base, root=place(folder / name), decode=settings.get("decode", "actor"))
        gates(spec).mkdir()
        with ThreadPoolExecutor() as beside:
            told_by[name] = events = Events()
            running = beside.submit(extract, runner, spec, shards, events, **settings)
            if crew.Extractor is Gated:
                wait_until(lambda: len(list(gates(spec).iterdir())) == 3, 100)
                for number in range(killed):
                    machines.kill(machines.known.pop(0))
                    wait_until(lambda dead=number + 1: len(died(events)) == dead, 60)
                (gates(spec) / "open").touch()
            assert set(running.result().values()) == {"done"}, running.result()
        made[name] = finished(spec, shards)

    crew.Extractor = Extractor  # type: ignore[misc]
    run("serial", SerialRunner())
    run("decoded_elsewhere", RayRunner(), decode="cluster")
    crew.Extractor = Gated  # type: ignore[misc]
    run("three", RayRunner(), min_actors=3)
    run("killed", RayRunner(), killed=2, min_actors=3, retries=0)
    said = {name: [each[1:] for each in events] for name, events in told_by.items()}
    return {"made": made, "told": said}


def metrics(machines: Machines) -> dict[str, float]:
    """Return what the head's agent exports of ours, once the last run's shards are all counted."""
    found: dict[str, float] = {}
    end = time.monotonic() + 30
    while found.get("ray_spp_shards_committed_total", 0) < 18 and time.monotonic() < end:
        time.sleep(0.5)
        address = f"http://127.0.0.1:{machines.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        ours = [line for line in lines if line.startswith("ray_spp_")]
        found = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in ours}
    return found


def main(folder: Path) -> None:
    pool.WATCH_S, crew.WAITING_S, trust.PAUSES_S = 0.5, 1.0, (0.2,)
    crew.Extractor = Scripted  # type: ignore[misc]
    said: dict[str, Any] = {}
    machines = Machines()
    try:
        for scene in (
            no_room_then_some,
            more_is_asked_for_than_has_room,
            a_machine_is_drained,
            two_machines_killed,
            a_sick_machine,
            nothing_starts_on_a_machine,
            same_bytes,
        ):
            start = time.monotonic()
            own = folder / scene.__name__
            own.mkdir()
            said[scene.__name__] = scene(machines, own)
            said[scene.__name__]["seconds"] = time.monotonic() - start
        said["metrics"] = metrics(machines)
    finally:
        ray.shutdown()
        machines.cluster.shutdown()
        (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
