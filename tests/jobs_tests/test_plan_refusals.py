"""What does not fit is refused before anything runs, with both numbers and the way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from jobs import memory
from jobs.options import load
from jobs.plan.space import cache_bytes
from jobs.plan.stores import ImageSet, plan_store
from pipeline import machine, networks
from pipeline.config import Extractor
from pipeline.errors import RecipeError
from pipeline.extraction.memory import LIBRARIES_BYTES, Largest, MemoryPlan

Run = Callable[..., Any]
COLUMNS = {
    "image_id": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "windows": pa.int64(),
    "bytes": pa.int64(),
}
LARGEST = Largest("wide", (50, 20), 1000, 30, "busy")


def table(rows: list[tuple[str, int, int, int]]) -> pa.Table:
    each = [dict(zip(COLUMNS, (*row, 1), strict=True)) for row in rows]
    return pa.Table.from_pylist(each, schema=pa.schema(list(COLUMNS.items())))


def told(settings: Extractor, **parts: int) -> str:
    with pytest.raises(RecipeError) as refused:
        memory.refuse(MemoryPlan({"libraries": 10**9, **parts}, LARGEST), settings)
    return str(refused.value)


def test_the_largest_part_says_what_to_lower() -> None:
    given = Extractor(memory_bytes=1_500_000_000)
    said = told(given, images=600_000_000, vectors=500_000_000)
    assert said == (
        "projected 2.10 GB of memory for image wide exceeds 1.50 GB, extractor.memory_bytes: lower "
        "features.scales or set features.max_side_px, or raise extractor.memory_bytes "
        "(0.600 GB are for images, 1.00 GB for libraries)"
    )
    said = told(given, images=500_000_000, vectors=600_000_000)
    assert "for image busy exceeds" in said
    assert "lower windows.max_windows or features.levels, or raise" in said


def test_what_would_not_help_is_not_said() -> None:
    said = told(Extractor(memory_bytes=900_000_000), images=600_000_000)
    assert "extractor.memory_bytes: raise extractor.memory_bytes (0.600 GB" in said


def test_without_a_limit_a_worker_may_use_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 8_000_000_000)
    monkeypatch.setattr(machine, "cpus", lambda: 7)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert memory.allowed_bytes(Extractor()) == 7_000_000_000 // 7
    assert memory.allowed_bytes(Extractor(cpus=3)) == 7_000_000_000 // 2
    assert memory.allowed_bytes(Extractor(cpus=3, max_actors=1)) == 7_000_000_000
    assert memory.allowed_bytes(Extractor(memory_bytes=5)) == 5
    memory.refuse(MemoryPlan({"libraries": 10**9}, None), Extractor())


def test_fewer_workers_are_named_as_a_way_out_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1_900_000_000)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    own = "set extractor.memory_bytes to what a worker may use on the machines it will run on ("
    monkeypatch.setattr(machine, "cpus", lambda: 1)
    assert f"exceeds 0.900 GB, a worker's share of this machine: {own}" in told(Extractor())
    monkeypatch.setattr(machine, "cpus", lambda: 2)
    expected = (
        f"0.450 GB, a worker's share of this machine: set a lower extractor.max_actors, or {own}"
    )
    assert expected in told(Extractor())
    assert f"0.900 GB, a worker's share of this machine: {own}" in told(Extractor(max_actors=1))


def test_the_check_of_a_job_names_the_image(tiny: Path) -> None:
    recipe = load(str(tiny), ["extractor.memory_bytes=800_000_000"], None)
    network = networks.outline("zf5", width=0.1, fc_units=16, levels=(2, 1))
    plan = memory.check_memory(recipe, network, table([("a", 300, 300, 9)]))
    assert LIBRARIES_BYTES < plan.bytes < 800_000_000
    with pytest.raises(RecipeError, match=r"for image b exceeds 0\.800 GB"):
        memory.check_memory(recipe, network, table([("a", 300, 300, 9), ("b", 9000, 300, 9)]))


def test_plan_refuses_memory_and_still_shows_its_figures(voc: Path, spp: Run, refused: Run) -> None:
    root = voc.parent
    places = (root / "voc.toml", "--data", root, "--runs", root / "runs")
    small = ("--set", "extractor.memory_bytes=700_000_000")
    said = spp("plan", *places, *small, "--probe")
    refused(said, 2, "projected 0.9", "exceeds 0.700 GB", "raise extractor.memory_bytes")
    assert "memory of a worker" in said.out
    answer = json.loads(spp("plan", *places, *small, "--json").out)
    assert answer["refused"].startswith("projected 0.9")
    assert answer["projected"]["memory"]["bytes"] > answer["allowed_bytes"] == 700_000_000


def test_plan_refuses_what_no_disk_holds_and_warns_where_it_may_fail(
    run_voc: Run, voc: Path, spp: Run, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = voc.parent
    places = (root / "voc.toml", "--data", root, "--runs", root / "runs")

    def with_free(count: int, *options: str) -> Any:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=count))
        return spp("plan", *places, *options)

    held = json.loads(with_free(10**12, "--json").out)
    assert held["warning"] is None
    said = with_free(1000)  # not counted: nobody knows that it will not fit
    assert said.code == 0
    assert "warning: up to 0.00" in said.out
    run_voc("windows")
    said = with_free(1000)
    refused(said, 2, "projected 0.00", "0.000 GB are free in", "--runs", 'features.store = "maps"')
    assert with_free(1000, "--set", "features.store=maps").code == 2  # the boxes alone are more
    refused(with_free(1000, "--stores", str(root / "else")), 2, f"free in {root / 'else'}")
    assert with_free(1000, "--stores", "s3://bucket/stores").code == 0  # nobody knows its size
    exact = json.loads(with_free(10**9, "--json").out)
    needed = exact["projected"]["bytes"]["store"]
    refused(with_free(needed - 1), 2, "are free in")
    assert with_free(needed + 1).code == 0
    run_voc("extract")
    assert with_free(1000).code == 0  # what is there is not written again
    for store in (root / "runs" / "jobs").glob("extract_*/store"):
        shutil.rmtree(store)
    assert with_free(1000).code == 0  # done, wherever the store may lie by now


def images(count: int, windows: int, objects: int = 0) -> ImageSet:
    rows = [(f"{k}", 300, 200, windows) for k in range(count)]
    return ImageSet("train", table(rows), objects, True)


def test_caches_hold_each_vector_once_at_most(tiny: Path) -> None:
    network = networks.outline("zf5", width=0.1, fc_units=16, levels=(2, 1))
    vector = 26 * 5 * 2  # 256 channels × 0.1, 5 bins, float16
    member = 16 + 2 * 2  # ten classes in two bytes, twice
    options = ["svm.negatives=3", "mining.max_per_image=2", "mining.rounds=2"]
    recipe = load(str(tiny), options, None)
    rows = 13 + 7 * 3 + 2 * 10 * 2 * 7  # objects, sample, two rounds of ten classes
    assert cache_bytes(recipe, network, images(7, 99, 13)) == rows * (vector + 3 * member)
    assert cache_bytes(recipe, network, images(7, 5, 13)) == 7 * 5 * (vector + 3 * member)
    assert cache_bytes(recipe, network, images(0, 5)) == 0


@pytest.mark.parametrize(
    ("count", "windows", "shards", "taken"),
    [(0, 5, 0, 0), (1, 5, 1, 5), (1, 0, 1, 0), (7, 11, 3, 77)],
)
def test_shards_and_bytes_of_few_images(
    tiny: Path, count: int, windows: int, shards: int, taken: int
) -> None:
    network = networks.outline("zf5", width=0.1, fc_units=16, levels=(2, 1))
    options = ["features.shard_images=3", "features.shard_bytes=10_000_000"]
    plan = plan_store(load(str(tiny), options, None), network, images(count, windows))
    assert (plan.images, plan.windows, plan.shards) == (count, taken, shards)
    assert plan.bytes.windows == taken * (26 * 5 * 2 + 16)
