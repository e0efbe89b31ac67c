"""A worker is killed at each named point of the commit: others go on, and no byte is different."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from actors import crew, pool
from actors.runner import RayRunner
from actors.serial import SerialRunner
from pipeline.store import ShardPlan
from pipeline.store.place import place
from tests.actors_tests.doomed import POINTS, Doomed, point_of
from tests.actors_tests.scenes import Events, extract
from tests.noise import dataset, finished

# What lies there under its own name when a point is reached.
LEFT = {
    "write_rows": [],
    "check": [],
    "finish": [],
    "bring_maps": [],
    "bring_rows": ["maps"],
    "create_record": ["maps", "shards"],
    "created_record": ["maps", "records", "shards"],
}
IDS = [f"{number:02d}" for number in range(12)]
PLANS = [
    ShardPlan(f"{n:05d}-{point}", tuple(IDS[n::7]), 7 * len(IDS[n::7]), 1)
    for n, point in enumerate(POINTS)
]


@dataclass(frozen=True)
class Scene:
    """What came of it."""

    marks: Path
    died: int
    disturbed: dict[str, str]
    undisturbed: dict[str, str]
    """Digests by file."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Scene:
    """One run in which each shard kills its worker, a second one, and one that nothing disturbs."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "marks").mkdir()
    base = dataset(folder)
    features = base.features.model_copy(update={"store": "maps"})
    specs = [
        replace(base, features=features, root=place(folder / name)) for name in ("one", "other")
    ]
    events: Events = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "Extractor", Doomed)
        patch.setattr(pool, "WATCH_S", 0.2)
        found = extract(RayRunner(), specs[0], PLANS, events, retries=3)
    assert set(found.values()) == {"done"}, found
    made = specs[0].root.listing("records")
    for spec in specs:
        assert set(extract(SerialRunner(), spec, PLANS, []).values()) == {"done"}
    assert specs[0].root.listing("records") == made
    died = [fields for _, kind, fields in events if kind == "actor_died"]
    return Scene(folder / "marks", len(died), *(finished(spec, PLANS) for spec in specs))


@pytest.mark.parametrize("plan", PLANS, ids=point_of)
def test_a_worker_killed_at_a_point_of_the_commit(scene: Scene, plan: ShardPlan) -> None:
    mark = scene.marks / point_of(plan)
    assert mark.exists(), "it was not killed there"
    assert mark.read_text().split() == LEFT[point_of(plan)]
    own = {name: held for name, held in scene.undisturbed.items() if plan.shard_id in name}
    assert len(own) == 3
    assert {name: held for name, held in scene.disturbed.items() if plan.shard_id in name} == own


def test_in_the_end_nothing_is_different(scene: Scene) -> None:
    assert scene.died == len(POINTS)
    assert scene.disturbed == scene.undisturbed
