"""A cluster that can grow is known by its monitor; many shards or extractors are no load."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors import cluster
from tests.actors_tests.crowd import crowd, operations

PROJECT = Path(__file__).parents[2]


def report(*kinds: str) -> bytes:
    """What Ray 2.60's monitor wrote for a cluster, in part."""
    mapping = {str(number): kind for number, kind in enumerate(kinds)}
    told = {"active_nodes": {}, "node_type_mapping": mapping, "pending_launches": {"cpu": 1}}
    return json.dumps({"autoscaler_report": told}).encode()


@pytest.mark.parametrize(
    ("reports", "grows"),
    [
        ([report("node_3fe", "node_a01")], False),  # each started by hand
        ([report("ray.head.default")], True),
        ([b"", None, report("headgroup")], True),  # it was not there yet
        ([], False),
    ],
)
def test_an_autoscaler_is_known_by_the_names_of_its_machines(
    monkeypatch: pytest.MonkeyPatch, reports: list[bytes | None], grows: bool
) -> None:
    waiting = iter(reports)
    monkeypatch.setattr(cluster, "is_autoscaler_v2", lambda: False)
    monkeypatch.setattr(cluster, "_internal_kv_get", lambda _: next(waiting, None))
    monkeypatch.setattr(cluster, "STATUS_S", 1.2)
    assert cluster.can_grow(cluster.STATUS_S) is grows


@pytest.mark.parametrize(("kind", "grows"), [("node_3fe", False), ("gpu-group", True)])
def test_also_by_that_of_the_second_version(
    monkeypatch: pytest.MonkeyPatch, kind: str, grows: bool
) -> None:
    node = SimpleNamespace(ray_node_type_name=kind)
    status = SimpleNamespace(active_nodes=[], idle_nodes=[node], pending_nodes=[])
    monkeypatch.setattr(cluster, "is_autoscaler_v2", lambda: True)
    monkeypatch.setattr(cluster, "get_cluster_status", lambda _: status)
    monkeypatch.setattr(cluster, "_address", lambda: "127.0.0.1:1")
    assert cluster.can_grow() is grows


def test_a_thousand_extractors_cost_the_driver_no_more_a_shard_than_two() -> None:
    taken = []
    for extractors in (2, 1000):
        with crowd(extractors, answers=1) as take:
            taken.append(operations(lambda take=take: take(50)))
    # Some 1,440 a shard. One look at each of a thousand would be ten times that.
    assert taken[1] < 1.1 * taken[0]


COUNT = """
import scheduling
from ray import cloudpickle
cloudpickle.register_pickle_by_value(scheduling)
print(scheduling.grown_bytes(1000, 10_000))
"""


@pytest.mark.slow
def test_ten_thousand_shards_leave_the_driver_as_it_was(
    ray_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(PROJECT / "benchmarks"), ray_environment["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", ":".join(paths))
    command = [sys.executable, "-c", COUNT]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    grown_bytes = int(done.stdout.splitlines()[-1])
    assert grown_bytes < 20_000_000  # 2 kB a shard; all plans and answers kept would be more
