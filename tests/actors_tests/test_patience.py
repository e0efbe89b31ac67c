"""Extractors that take long, stand still, find no room, or have nothing left to do."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from actors import policy, pool
from actors.resources import Resources
from tests.actors_tests.script import Script, wait_until
from tests.actors_tests.scripted import Events, extract, hurry, kinds, plans

pytestmark = pytest.mark.usefixtures("ray_cluster", "quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def test_a_shard_that_takes_long_is_done_by_another(tmp_path: Path) -> None:
    # "e" stands still for a minute where it is tried first; its extractor ends with the run. The
    # one that is done tells what is usual.
    script = Script(tmp_path, {"e": ["long", "ok"]})
    found, events = extract(script, *"ae")
    assert found == {name: f"{name} done" for name in "ae"}
    assert script.pid("e", 0) != script.pid("e", 1)
    told = [fields for kind, fields in events if kind == "shard_retried"]
    assert "e" in {fields["shard_id"] for fields in told}
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in script.pids()))


class Turns:
    """A pool of two, moved by hand; what it answered, each settled once it is done."""

    def __init__(self, script: Any) -> None:
        self.pool = pool.ExtractorPool(script, Resources(), least=2)
        self.told: list[tuple[str, Any]] = []
        self.until(lambda: self.pool.up == 2)

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "waited in vain"
            self.pool.watch(left=5)
            for ref in ray.wait(self.pool.refs, timeout=0.2)[0]:
                for answer in self.pool.answers(ref):
                    self.told.append((answer.plan.shard_id, answer.outcome.result))
                    if answer.outcome.error is None:
                        self.pool.settle(answer.plan)


def test_the_answer_that_comes_late_is_dropped(tmp_path: Path) -> None:
    # The first extractor has "e" and "g" in hand, the second one does "f", and then "e" as well.
    script = Script(tmp_path, {"e": ["gate", "ok"], "g": ["second gate"]})
    turns, (e, f, g) = Turns(script), plans("e", "f", "g")
    assert [turns.pool.send(plan) for plan in (e, f, g)] == [True] * 3
    turns.until(lambda: len(turns.told) == 1)
    script.pid("e")
    assert turns.pool.send(e, alone=True)
    turns.until(lambda: len(turns.told) == 2)
    script.open()
    turns.until(lambda: len(turns.pool.refs) == 1)  # "e" has come from the first one, too
    script.open("second gate")
    turns.until(lambda: len(turns.told) == 3)
    assert turns.told == [("f", "f done"), ("e", "e done"), ("g", "g done")]
    turns.pool.close()


def test_a_start_that_is_told_late_does_not_end_who_is_up(tmp_path: Path) -> None:
    # "Where are you?" and "are you up?" are answered side by side, and the first may come last.
    turns = Turns(Script(tmp_path))
    says = Script(tmp_path, {"late": ["bug"]})
    late = ray.remote(Script.act).options(num_cpus=0).remote(says, "late", 0)
    ray.wait([late])
    turns.pool._crew._starting[late] = turns.pool._crew.up[0]
    assert list(turns.pool.answers(late)) == []
    assert turns.pool.up == 2
    turns.pool.close()


def test_a_failure_that_is_told_before_the_place_is_held_against_the_machine(
    tmp_path: Path,
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    script: Any = Script(tmp_path, {"start": ["bug"]})
    few = pool.ExtractorPool(
        script, Resources(), most=1, on_event=lambda kind, **fields: told.append((kind, fields))
    )
    few.watch(left=5)
    (actor,) = few._crew._all
    assert len(ray.wait(few.refs, num_returns=2, timeout=60)[0]) == 2
    assert actor.ready is not None
    assert list(few.answers(actor.ready)) == []
    assert [kind for kind, _ in told] == ["actor_died"]
    assert told[0][1]["worker"].endswith(f":{script.pid('start')}")
    few.close()


def test_what_failed_waits_for_another_worker_even_where_one_is_free(tmp_path: Path) -> None:
    script = Script(tmp_path, {"e": ["bug", "ok"], "f": ["second gate"], "g": ["gate"]})
    turns, (e, f, g) = Turns(script), plans("e", "f", "g")
    assert turns.pool.send(e)
    turns.until(lambda: turns.told == [("e", None)])
    # First to the other one, which has had nothing in hand for longer.
    assert [turns.pool.send(f), turns.pool.send(g)] == [True, True]
    assert script.pid("e") == script.pid("g") != script.pid("f")
    script.open()
    turns.until(lambda: len(turns.told) == 2)
    assert not turns.pool.send(e, alone=True)  # the one that did "g" has nothing in hand now
    script.open("second gate")
    turns.until(lambda: len(turns.told) == 3)
    assert turns.pool.send(e, alone=True)
    turns.until(lambda: len(turns.told) == 4)
    assert turns.told == [("e", None), ("g", "g done"), ("f", "f done"), ("e", "e done")]
    assert script.pid("e", 1) == script.pid("f")
    turns.pool.close()


def test_an_extractor_that_works_in_vain_is_ended(tmp_path: Path) -> None:
    script = Script(tmp_path, {"e": ["long", "ok"]})
    turns, (e,) = Turns(script), plans("e")
    assert turns.pool.send(e)
    script.pid("e")
    assert turns.pool.send(e, alone=True)
    turns.until(lambda: turns.told == [("e", "e done")])
    wait_until(lambda: not Path(f"/proc/{script.pid('e', 0)}").exists())
    turns.pool.close()


def test_of_two_that_stand_still_at_a_shard_one_may_have_done_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both have "e" for too long, when the answer of one is there: the other has nothing in hand.
    script = Script(tmp_path, {"e": ["gate"]})
    turns, (e,) = Turns(script), plans("e")
    assert turns.pool.send(e)
    assert turns.pool.send(e, alone=True)
    monkeypatch.setattr(pool, "hung_after_s", lambda _: 0.1)
    time.sleep(pool.WATCH_S)
    turns.pool.watch(left=1)
    script.pid("e", 1)
    script.open()
    wait_until(lambda: len(ray.wait(turns.pool.refs, num_returns=2, timeout=0)[0]) == 2)
    for answer in turns.pool.end_hung():
        turns.told.append((answer.plan.shard_id, answer.outcome.result))
        turns.pool.settle(answer.plan)
    assert turns.told == [("e", "e done")]
    turns.pool.close()


def test_an_extractor_that_stands_still_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "HUNG_S", 2.0)
    script = Script(tmp_path, {"e": ["long", "ok"]})
    found, events = extract(script, *"abcde", max_actors=1)  # no other could do it
    assert found == {name: f"{name} done" for name in "abcde"}
    assert script.count("start") == 2
    reasons = [fields["reason"] for kind, fields in events if kind == "actor_died"]
    assert len(reasons) == 1
    assert "no answer for" in reasons[0]


def test_an_extractor_that_stands_still_at_the_only_shard_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "HUNG_S", 1.0)  # four times that where nothing is usual
    script = Script(tmp_path, {"e": ["long", "ok"]})
    found, events = extract(script, "e")
    assert found == {"e": "e done"}
    assert (script.count("start"), kinds(events).count("actor_died")) == (2, 1)


def test_an_extractor_that_fails_shard_after_shard_is_replaced(tmp_path: Path) -> None:
    # The first to start is sick. The other one gets its shards, and the last two wait for an heir.
    names = [f"s{number:02d}" for number in range(16)]
    says = {"y": ["gate"], "z": ["gate"], **{name: ["short"] for name in names}}
    script = Script(tmp_path, says, sick=1)

    def watch(events: Events) -> None:
        wait_until(lambda: kinds(events).count("actor_started") == 3, 60)
        script.open()

    found, events = extract(script, *names, "y", "z", meanwhile=watch, min_actors=2)
    assert found == {name: f"{name} done" for name in (*names, "y", "z")}
    (sick,) = [fields for kind, fields in events if kind == "actor_sick"]
    assert sick["reason"].startswith("3 shards failed there in a row; the last said: OSError: [Er")
    assert str(script.pid("start", 0)) in sick["worker"]
    failed = [fields["shard_id"] for _, fields in events if fields.get("failures")]
    assert len(failed) == len(set(failed)) <= 4  # three, and one in hand; each went elsewhere


def test_an_extractor_with_nothing_left_to_do_gives_its_room_back(tmp_path: Path) -> None:
    # Four shards for two extractors; the last one ends when one of them has gone.
    script = Script(tmp_path, {**{key: ["gate"] for key in "abcd"}, "e": ["second gate"]})

    def watch(events: Events) -> None:
        wait_until(lambda: kinds(events).count("actor_started") == 2, 30)
        script.open()
        wait_until(lambda: "actor_retired" in kinds(events), 30)
        script.open("second gate")

    found, events = extract(script, *"abcde", meanwhile=watch)
    assert found == {name: f"{name} done" for name in "abcde"}
    (retired,) = [fields for kind, fields in events if kind == "actor_retired"]
    assert (retired["up"], retired["reason"]) == (1, "shards left: 1")


def test_work_begins_with_fewer_than_asked_for_and_it_is_said(tmp_path: Path) -> None:
    # Two CPUs: the third extractor waits while the gate is closed.
    script = Script(tmp_path, {key: ["gate"] for key in "abcdef"})

    def watch(events: Events) -> None:
        wait_until(lambda: "waiting_for_room" in kinds(events), 30)
        script.open()

    found, events = extract(script, *"abcdef", meanwhile=watch, min_actors=3)
    assert found == {name: f"{name} done" for name in "abcdef"}
    told = next(fields for kind, fields in events if kind == "waiting_for_room")
    assert 1 <= told["waiting"] <= 3  # on a busy machine the others are not there yet
    assert told["asked"] == "1 CPUs"
    assert told["cluster"].startswith("2 CPUs, 0 GPUs, ")
