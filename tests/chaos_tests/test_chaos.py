"""Runs that fail in ways drawn from a seed, again and again: in the end nothing shows it.

`CHAOS_SEEDS=200 pytest tests/chaos_tests`, or `make chaos`, tries many; `CHAOS_FIRST` is the first.
"""

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from pipeline import store
from tests.chaos_tests.ground import Ground, Undisturbed
from tests.chaos_tests.scene import DRIVERS, WAYS, Disturbed, Scene, scene
from tests.computed import computed
from tests.s3 import BUCKET

# A scene is up to seven runs, each a process: half a minute alone, and several times that beside
# other tests.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(340)]

FIRST, COUNT = int(os.environ.get("CHAOS_FIRST", "43")), int(os.environ.get("CHAOS_SEEDS", "1"))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Ground:
    """A run directory in which all is ready for the extraction of either kind."""
    folder = tmp_path_factory.mktemp("chaos")
    for kind in ("windows", "maps"):
        text = tiny_text.replace("[features]", f'[features]\nstore = "{kind}"')
        (folder / f"{kind}.toml").write_text(text)
    ready = Ground(folder / "windows.toml", folder / "runs")
    ready.prepare()
    return ready


@pytest.fixture(scope="module")
def undisturbed(
    ground: Ground, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Undisturbed]:
    made: dict[str, Undisturbed] = {}

    def of(kind: str) -> Undisturbed:
        if kind not in made:
            copy = ground.copied(tmp_path_factory.mktemp(kind) / "runs", kind)
            assert copy.run(Disturbed(on_ray=False), "").code == 0
            made[kind] = Undisturbed(copy.digests(), copy.store_folders())
        return made[kind]

    return of


@pytest.fixture
def copied(
    ground: Ground, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[Scene], Ground]]:
    def copy(drawn: Scene) -> Ground:
        stores = None
        if drawn.far:
            request.getfixturevalue("s3_server")
            stores = f"s3://{BUCKET}/{uuid.uuid4().hex}"
        return ground.copied(tmp_path / "runs", drawn.kind, stores)

    yield copy
    shutil.rmtree(tmp_path)


@pytest.mark.usefixtures("ray_environment")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_whatever_happens_the_next_run_ends_as_if_it_had_not(
    seed: int, copied: Callable[[Scene], Ground], undisturbed: Callable[[str], Undisturbed]
) -> None:
    drawn = scene(seed)
    print(  # noqa: T201 - pytest shows it with a failure
        f"CHAOS_FIRST={seed} CHAOS_SEEDS=1 plays this again: {drawn}"
    )
    expected, runs = undisturbed(drawn.kind), copied(drawn)
    for number, disturbed in enumerate(drawn.runs):
        kept, before = runs.records(), computed(runs.runs)
        ended = runs.run(disturbed, str(number), expected.folders)
        require_disturbed(disturbed, ended.code, ended.happened, first=number == 0)
        require_kept(runs, kept, before)

    kept, before = runs.records(), computed(runs.runs)
    assert runs.run(Disturbed(on_ray=False), "last").code == 0
    require_kept(runs, kept, before)
    for root in runs.stores():
        assert store.open(root).verify() == []
        store.gc(root, remove=True, older_than_s=0)
    digests = runs.digests()
    assert digests == {name: held for name, held in expected.digests.items() if name in digests}
    assert len(digests) == len(expected.digests) - 2 * len(runs.stores()) * drawn.far


def require_kept(runs: Ground, kept: dict[str, float], before: Counter[str]) -> None:
    """Whether what was committed is there as it was, and nobody computed it again."""
    assert kept.items() <= runs.records().items()
    again = computed(runs.runs) - before
    assert not [name for name in again if any(_names(record, name) for record in kept)]


def _names(record: str, shard: str) -> bool:
    """Whether a record, in a store of the run directory or elsewhere, is that job's shard's."""
    job, shard_id = shard.split("/")
    return f"/{job}/" in record and record.endswith(f"/records/{shard_id}.json")


def require_disturbed(disturbed: Disturbed, code: int, happened: list[int], first: bool) -> None:
    """Whether what was to go wrong went wrong, and nothing else did."""
    faults = [disturbed.script[number] for number in happened]
    # What fails in a worker of Ray is tried again, and each fault happens once: of the two that a
    # run may have, one shard takes both.
    harmless = [disturbed.on_ray and each["step"] not in DRIVERS for each in faults]
    if disturbed.killed_after is not None:
        assert code in (-9, 0)
    elif first or code:
        assert faults, "nothing was in its way"
    assert bool(code) == (not all(harmless)) or disturbed.killed_after is not None, faults


@pytest.mark.parametrize(("step", "code"), [("check", 0), ("write_manifest", 1)])
@pytest.mark.parametrize("do", ["kill", "eio", "enospc", "fail_rename", "short_write"])
def test_a_run_on_ray_takes_harm_from_what_its_driver_does_alone(
    step: str, do: str, code: int
) -> None:
    faults = ({"step": step, "do": do},)
    require_disturbed(Disturbed(True, faults), code, [0], first=True)
    with pytest.raises(AssertionError):
        require_disturbed(Disturbed(True, faults), 1 - code, [0], first=True)
    require_disturbed(Disturbed(False, faults), 1, [0], first=True)
    with pytest.raises(AssertionError):
        require_disturbed(Disturbed(True, faults), 1, [], first=False)


def test_scenes_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    assert scene(3) == scene(3)
    assert len({str(scene(seed)) for seed in range(20)}) == 20


def test_all_that_may_go_wrong_is_drawn() -> None:
    drawn = [scene(seed) for seed in range(300)]
    assert {(each.kind, each.far) for each in drawn} == {
        (kind, far) for kind in ("windows", "maps") for far in (False, True)
    }
    scripts = chain.from_iterable(run.script for each in drawn for run in each.runs)
    assert {(each["step"], each["do"]) for each in scripts} == {
        (step, way) for step, ways in WAYS.items() for way in ways
    }
    assert any(run.killed_after is not None for each in drawn for run in each.runs)
