"""Machines that come, go and die at work: nothing is lost, and not one byte is another."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The scenes take a minute on a machine of two cores, and several times that beside others.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(340)]

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def said(
    ray_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What came of the scenes."""
    folder, short = tmp_path_factory.mktemp("scenes"), tempfile.mkdtemp(prefix="spp")
    command = [sys.executable, "-m", "tests.actors_tests.scenes", str(folder)]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", short)  # a socket's path has no more than 107 characters
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
        report = folder / "said.json"
        yield json.loads(report.read_text()) | {"log": done.stdout + done.stderr}
    finally:
        shutil.rmtree(short, ignore_errors=True)


def test_where_there_is_no_room_it_is_said_and_a_machine_that_joins_gets_work(
    said: dict[str, Any],
) -> None:
    scene = said["no_room_then_some"]
    assert scene["found"] == {"a": "done", "b": "done"}, said["log"]
    assert scene["waited"]["asked"] == "1 CPUs"
    assert scene["waited"]["cluster"].startswith("0 CPUs, 0 GPUs, ")


def test_one_more_waits_for_room_than_there_is_and_a_machine_that_comes_has_it(
    said: dict[str, Any],
) -> None:
    scene = said["more_is_asked_for_than_has_room"]
    assert scene["found"] == {name: "done" for name in "abcdef"}, said["log"]
    assert (scene["pids"], scene["died"]) == (2, [])


def test_a_machine_that_is_drained_ends_what_it_has_in_hand_and_gets_no_more(
    said: dict[str, Any],
) -> None:
    scene = said["a_machine_is_drained"]
    assert scene["found"] == {name: "done" for name in "abcdef"}, said["log"]
    assert (scene["shard_retried"], scene["actor_died"]) == ([], [])
    (drained,) = [each for each in scene["actor_retired"] if "drained" in each["reason"]]
    assert not set(scene["by"]) & {int(drained["worker"].rpartition(":")[2])}


def test_a_machine_on_which_all_fails_is_left_alone_while_there_are_others(
    said: dict[str, Any],
) -> None:
    scene = said["a_sick_machine"]
    assert set(scene["found"].values()) == {"done"}, said["log"]
    # One and its heir on the first, one on the second; the next one waited for the third machine.
    assert (sorted(scene["started"][:2]), scene["started"][2:], scene["sick"]) == (
        [0, 1],
        [0, 2],
        2,
    )


def test_a_machine_on_which_nothing_starts_ends_no_run(said: dict[str, Any]) -> None:
    scene = said["nothing_starts_on_a_machine"]
    assert scene["found"] == {name: "done" for name in "abcdef"}, said["log"]
    assert {each["machine"] for each in scene["machine_barred"]} == {scene["dead"]}
    # Two are enough to bar it; a third may be on its way there already.
    assert len(scene["actor_died"]) in (2, 3)


def test_two_machines_killed_one_after_the_other_lose_nothing(said: dict[str, Any]) -> None:
    scene = said["two_machines_killed"]
    assert scene["found"] == {f"s{number:02d}": "done" for number in range(20)}, said["log"]
    assert scene["died"] == 2
    # Two shards in hand each; with no retry at all: no shard is blamed for a machine.
    assert 2 <= len(scene["retried"]) <= 4


def test_a_machine_that_joins_gets_shards(said: dict[str, Any]) -> None:
    scene = said["two_machines_killed"]
    assert int(scene["joined"].rpartition(":")[2]) in scene["pids"]


@pytest.mark.parametrize("name", ["three", "decoded_elsewhere", "killed"])
def test_machines_their_deaths_and_where_images_are_decoded_change_no_byte(
    said: dict[str, Any], name: str
) -> None:
    made = said["same_bytes"]["made"]
    assert len([file for file in made["serial"] if file.startswith(("shards", "records"))]) == 12
    assert "manifest.json" in made["serial"], said["log"]
    assert made[name] == made["serial"]


def workers(said: dict[str, Any], run: str, kind: str) -> list[str]:
    told = said["same_bytes"]["told"][run]
    return [fields["worker"] for each, fields in told if each == kind]


def test_three_machines_took_part_and_two_were_killed_at_work(said: dict[str, Any]) -> None:
    assert len(set(workers(said, "three", "shard_done"))) == 3, said["log"]
    died = set(workers(said, "killed", "actor_died")) - {""}  # that is an heir without a place
    (left,) = set(workers(said, "killed", "shard_done"))
    assert (len(died), left in died) == (2, False)
    lost = [fields for _, fields in said["same_bytes"]["told"]["killed"] if fields.get("machines")]
    assert len(lost) == 4  # two in hand each


def test_each_shard_says_who_did_it(said: dict[str, Any]) -> None:
    assert workers(said, "serial", "shard_done") == [""] * 6, said["log"]  # has no other name
    for run in ("three", "decoded_elsewhere", "killed"):
        done = workers(said, run, "shard_done")
        assert len(done) == 6
        assert set(done) <= set(workers(said, run, "actor_started"))


def test_prometheus_can_read_what_a_run_did(said: dict[str, Any]) -> None:
    # Three runs on the cluster, of eleven images with seven windows and one in quarantine.
    found = said["metrics"]
    expected = {"images": 33, "images_quarantined": 3, "windows": 231, "shards_committed": 18}
    for name, amount in expected.items():
        assert found[f"ray_spp_{name}_total"] == amount, said["log"]
    assert found["ray_spp_bytes_written_total"] > 0
    for name in ("shards_waiting", "shards_in_flight", "actors_up"):
        assert found[f"ray_spp_{name}"] == 0
