"""Extractors by script: what each try of each shard does, and what becomes of the others."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from actors import answers, crew, ledger, pool, trust
from actors.ledger import Outcome
from actors.runner import RayRunner, Stopped
from pipeline import config
from pipeline.errors import InputError, RecipeError, SppError, UnreachableError
from pipeline.extraction import ExtractionSpec, NetworkSpec
from pipeline.networks import load, save
from pipeline.store import ShardPlan
from pipeline.store.place import place
from tests.actors_tests.script import Script, Scripted, wait_until
from tests.actors_tests.scripted import plans

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(autouse=True)
def scripted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_extractor" not in request.fixturenames:
        monkeypatch.setattr(crew, "Extractor", Scripted)
        monkeypatch.setattr(trust, "PAUSES_S", (0.0,))


@pytest.fixture
def real_extractor() -> None:
    """Take the real one."""


def run(
    script: Any, *names: str, runner: RayRunner | None = None, **settings: Any
) -> list[Outcome]:
    chosen = config.Extractor(**settings)
    return list((runner or RayRunner()).extract(script, plans(*names), chosen))


def results(outcomes: list[Outcome]) -> dict[str, Any]:
    return {each.key: each.result if each.error is None else type(each.error) for each in outcomes}


def test_what_fails_on_all_is_answered_by_name_and_the_rest_is_done(tmp_path: Path) -> None:
    script = Script(tmp_path, {"b": ["bad"], "c": ["bug"], "e": ["store"]})
    assert results(run(script, *"abcdef")) == {
        "a": "a done", "b": InputError, "c": ZeroDivisionError, "d": "d done",
        "e": UnreachableError, "f": "f done",
    }  # fmt: skip
    # Bad input is bad everywhere; others may do better at what was no fault of the input.
    assert [script.count(name) for name in "bce"] == [1, 3, 3]


def test_what_failed_is_tried_again_by_the_only_worker(tmp_path: Path) -> None:
    script = Script(tmp_path, {"b": ["bug", "bug", "ok"]})
    assert results(run(script, *"abc", max_actors=1)) == {name: f"{name} done" for name in "abc"}
    assert script.count("start") == 1


def test_where_shard_after_shard_fails_on_all_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "HOPELESS", 5)
    names = [f"s{number:02d}" for number in range(20)]
    script = Script(tmp_path, {name: ["bug"] for name in names[3:]})
    told: list[str] = []
    runner, settings = RayRunner(), config.Extractor(retries=1)
    spec: Any = script
    with pytest.raises(SppError, match=r"5 shards failed at every .*: ZeroDivision"):
        told += [each.key for each in runner.extract(spec, plans(*names), settings)]
    # Two tries each, and what was in hand, or waited for the other extractor.
    assert 10 <= sum(script.count(name) for name in names[3:]) <= 10 + 8


def test_no_shards_start_no_extractor(tmp_path: Path) -> None:
    script = Script(tmp_path)
    assert run(script) == []
    assert script.count("start") == 0


def test_no_more_extractors_than_shards_or_asked_for(tmp_path: Path) -> None:
    script = Script(tmp_path)
    run(script, "a")
    assert script.count("start") == 1
    run(script, "b", "c", "d", max_actors=1)
    assert script.count("start") == 2


def test_few_shards_wait_at_an_extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, int]] = []
    send = pool.ExtractorPool.send

    def watched(self: pool.ExtractorPool, plan: ShardPlan, *how: bool, **more: bool) -> bool:
        was_sent = send(self, plan, *how, **more)
        if was_sent:
            sent.append((plan.shard_id, len(self._flying)))
        return was_sent

    monkeypatch.setattr(pool.ExtractorPool, "send", watched)
    run(Script(tmp_path), *"abcdefgh", max_actors=1)
    assert max(in_hand for _, in_hand in sent) == pool.SHARDS_IN_HAND
    sent.clear()
    # What was lost with its extractor comes last and alone; the others go on side by side.
    run(Script(tmp_path, {"k": ["die", "ok"]}), *"klmnopqr", max_actors=1)
    again = [sent.pop() for _ in range(len(sent) - 8)][::-1]
    assert "k" in dict(again)
    assert {in_hand for _, in_hand in again} == {1}
    assert max(in_hand for _, in_hand in sent[-4:]) == pool.SHARDS_IN_HAND


def test_a_shard_is_retried_on_another_extractor(tmp_path: Path) -> None:
    script = Script(tmp_path, {"b": ["die", "ok"]})
    outcomes = run(script, "a", "b", "c", max_actors=1)
    assert results(outcomes) == {"a": "a done", "b": "b done", "c": "c done"}
    assert script.count("b") == 2
    assert script.count("start") == 2


def test_an_extractor_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    script = Script(tmp_path, {"b": ["long", "ok"]})
    mark = tmp_path / "b.0"

    def kill() -> None:
        wait_until(lambda: mark.exists() and mark.read_text() != "")
        os.kill(int(mark.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = run(script, *"abcd")
    killer.join()
    assert results(outcomes) == {name: f"{name} done" for name in "abcd"}
    assert (tmp_path / "b.1").read_text() != mark.read_text()


@pytest.mark.parametrize("retries", [0, 1])
def test_a_shard_that_kills_every_extractor_is_given_up_by_name_and_the_rest_is_done(
    tmp_path: Path, retries: int
) -> None:
    # One extractor: what it has in hand besides "b" dies with it, and is not to blame.
    script = Script(tmp_path, {"a": ["short"], "b": ["die"]})
    outcomes = run(script, *"abcde", max_actors=1, retries=retries)
    given_up = next(each for each in outcomes if each.key == "b")
    assert isinstance(given_up.error, SppError)
    assert f"died {retries + 1} times" in str(given_up.error)
    done = {name: f"{name} done" for name in "acde"}
    assert results(outcomes) == {**done, "b": SppError}
    # A first death in company proves nothing.
    assert retries + 1 <= script.count("b") <= 1 + retries + 1


def test_the_librarys_error_at_the_start_ends_the_run_at_once(tmp_path: Path) -> None:
    script = Script(tmp_path, {"start": ["bad"]})
    with pytest.raises(InputError, match="start has 3 of 5 tensors"):
        run(script, "a", "b")
    assert script.count("start") <= 2


def test_extractors_that_die_at_the_start_are_not_started_for_ever(tmp_path: Path) -> None:
    script = Script(tmp_path, {"start": ["die"]})
    with pytest.raises(SppError, match="3 did"):
        run(script, "a", max_actors=1, retries=1)
    assert script.count("start") == 3


@pytest.mark.parametrize("fault", ["die", "bug", "store"])
def test_an_extractor_may_fail_at_the_start_once(tmp_path: Path, fault: str) -> None:
    assert results(run(Script(tmp_path, {"start": [fault, "ok"]}), "a")) == {"a": "a done"}


def test_extractors_that_cannot_start_are_not_tried_for_ever(tmp_path: Path) -> None:
    script = Script(tmp_path, {"start": ["bug"]})
    with pytest.raises(SppError, match=r"cannot start, 3 could not: .* ZeroDivisionError: start"):
        run(script, "a", max_actors=1, retries=1)
    assert script.count("start") == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cpus": 64}, "extractor.cpus = 64, and no machine of the cluster has more than 2 CPUs"),
        ({"gpus": 1}, "extractor.gpus = 1, and no machine of the cluster has more than 0 GPUs"),
        (
            {"memory_bytes": 10**13},
            r"memory_bytes = 10,000,000,000,000, and no .* than [\d,]+ bytes",
        ),
        (
            {"cpus": 2, "decode": "cluster"},
            "extractor.cpus = 2, and the cluster has 2 CPUs; .* 1 bes",
        ),
    ],
)
def test_an_extractor_that_fits_no_machine_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        run(Script(tmp_path), "a", **settings)


def test_a_stop_ends_the_run_and_its_extractors(tmp_path: Path) -> None:
    script, runner = Script(tmp_path, {"a": ["long"]}), RayRunner()
    mark = tmp_path / "a.0"

    def stop() -> None:
        wait_until(lambda: mark.exists() and mark.read_text() != "")
        runner.stop.set()

    threading.Thread(target=stop).start()
    with pytest.raises(Stopped):
        run(script, "a", "b", runner=runner)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in script.pids()))


def test_two_pools_at_the_same_time_do_not_wait_for_each_other(tmp_path: Path) -> None:
    answers: dict[str, dict[str, Any]] = {}

    def work(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        script = Script(folder, {shard: ["short"] for shard in "abcd"})
        answers[name] = results(run(script, *"abcd"))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("train", "test")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    expected = {shard: f"{shard} done" for shard in "abcd"}
    assert answers == {"train": expected, "test": expected}


@pytest.mark.usefixtures("real_extractor")
def test_weights_of_the_wrong_shape_are_named_by_the_real_extractor(tmp_path: Path) -> None:
    weights = tmp_path / "narrow.safetensors"
    save(load("zf5", width=0.1, fc_units=16, levels=(2, 1)), weights)
    network = NetworkSpec("zf5", weights, options={"width": 0.2})
    nowhere = tmp_path / "nowhere"
    features = config.Features()
    spec = ExtractionSpec(place(nowhere), network, features, nowhere, nowhere, "train", "x")
    with pytest.raises(InputError, match=r"conv1.*\(10, 3, 7, 7\).*\(19, 3, 7, 7\)"):
        run(spec, "a")


def test_memory_is_reserved(tmp_path: Path) -> None:
    script = Script(tmp_path, {"a": ["gate"]})
    before = ray.available_resources()["memory"]
    with ThreadPoolExecutor() as beside:
        found = beside.submit(run, script, "a", memory_bytes=1_000_000_007)
        script.pid("a")
        wait_until(lambda: before - ray.available_resources()["memory"] == 1_000_000_007)
        script.open()
        assert results(found.result()) == {"a": "a done"}


def test_what_an_extractor_had_that_memory_ran_out_for_is_done_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(ref: ray.ObjectRef, key: str) -> Outcome:
        """As Ray's memory monitor answers for a process that it has killed."""
        outcome = answers.outcome_of(ref, key)
        if isinstance(outcome.error, RayActorError):
            return Outcome(key, error=OutOfMemoryError("95 % of 24 GB are taken"))
        return outcome

    for room in (pool, crew):
        monkeypatch.setattr(room, "outcome_of", told)
    script = Script(tmp_path, {"start": ["die", "ok"], "b": ["die", "ok"]})
    done = {name: f"{name} done" for name in "abcdef"}
    assert results(run(script, *done, max_actors=1)) == done
    assert script.count("start") == 3  # the one that died, the one that `b` killed, and its heir
