"""Killed anywhere, without power, or let down by the disk: run again, and nothing is different."""

import multiprocessing
import os
import signal
from collections.abc import Callable

import pytest

from pipeline import store
from pipeline.store.place import place
from tests import faults, small_store

# Which call of each step, and how many shards are committed before and after it.
NAMED = {
    "claim": (1, 0, 0),
    "write_labels": (1, 0, 0),
    "write_rows": (2, 0, 0),
    "check": (3, 1, 1),  # of maps, and then of rows: the second shard's first
    "bring_maps": (2, 1, 1),
    "bring_rows": (2, 1, 1),
    "create_record": (2, 1, 2),
    "write_manifest": (1, 2, 2),
}


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """Run in a process forked from one without threads; return how it ended, and what it told."""
    # It has imported everything: a try takes a tenth of a second, not three.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.small_store", "pipeline.store.maps"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))

        def run(uri: str, maps: bool, script: faults.Script) -> tuple[int, list[str]]:
            # Its environment is that of its birth: before there was a server, perhaps.
            here = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
            told = tmp_path_factory.mktemp("told") / "log"
            process = context.Process(
                target=small_store.make_with_faults, args=(uri, maps, script, here, told)
            )
            process.start()
            process.join(60)
            assert process.exitcode is not None
            return process.exitcode, told.read_text().split() if told.exists() else []

        yield run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Callable[[bool], store.Place]:
    made = {}
    for maps in (False, True):
        made[maps] = place(tmp_path_factory.mktemp("undisturbed") / "store")
        small_store.make(made[maps], maps)
    return made.__getitem__


@pytest.fixture
def goes_on(undisturbed, files):
    def check(root: store.Place, maps: bool = False) -> None:
        """Run again: the same bytes, committed shards as they were, and the rest is garbage."""
        before = root.listing("records")
        done = store.committed(root)
        made = small_store.make(root, maps)
        assert set(made) == set(small_store.SHARDS) - done
        after = root.listing("records")
        assert {name: after[name] for name in before if before[name].bytes} == {
            name: each for name, each in before.items() if each.bytes
        }
        held, expected = files(root), files(undisturbed(maps))
        assert {name: held.get(name) for name in expected} == expected
        rest = set(held) - set(expected)
        assert {each.name for each in store.gc(root, older_than_s=-60)} == rest
        assert store.gc(root) == []  # young: an attempt may be at work
        store.gc(root, remove=True, older_than_s=-60)
        assert files(root) == expected
        assert store.open(root).verify() == []

    return check


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", NAMED)
def test_killed_at_each_named_point_of_the_commit(root, child, goes_on, step, when):
    nth, *committed = NAMED[step]
    script = [{"step": step, "nth": nth, "when": when, "do": "kill"}]
    assert child(str(root), True, script)[0] == -signal.SIGKILL
    assert len(store.committed(root)) == committed[when == "after"]
    goes_on(root, True)


@pytest.mark.slow
@pytest.mark.parametrize(("maps", "do"), [(False, "kill"), (True, "power_loss")])
def test_killed_or_without_power_before_each_change_of_the_disk(
    tmp_path, child, goes_on, undisturbed, maps, do
):
    """Strictly read: what was not synced is lost, names and bytes."""
    with faults.installed([]) as counted:
        small_store.make(place(tmp_path / "counted"), maps)
    total = counted.calls["disk"]
    assert total > 35
    for number in range(1, total + 1):
        root = place(tmp_path / f"{number}")
        fault = {"step": "disk", "nth": number, "do": do, "roots": [str(root)]}
        code, told = child(str(root), maps, [fault])
        assert code == -signal.SIGKILL
        # What was said to be done is done, and stays so.
        assert set(told) - {"finished"} <= store.committed(root)
        assert "finished" not in told or store.sound(root) is None
        goes_on(root, maps)
