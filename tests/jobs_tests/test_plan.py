"""`spp plan` against what the stores then take, and what goes into a shard."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.networks import load, save
from pipeline.store.plan import SCALARS_BYTES

Run = Callable[..., Any]


def summary(said: Any, job: str) -> dict:
    return next(row["summary"] for row in json.loads(said.out) if row["job"] == job)


def test_plan_counts_bytes_as_the_stores_then_take_them(run_voc: Run, voc: Path, spp: Run) -> None:
    root = voc.parent
    places = ("--data", root, "--runs", root / "runs")

    def planned(*options: str) -> dict:
        answer = json.loads(spp("plan", root / "voc.toml", *places, "--json", *options).out)
        return {"kind": answer["recommended"].split(":")[0], **answer["stores"][0]}

    before = planned()
    assert before["windows_are"] == "at most"
    run_voc("windows")
    after = planned()
    assert after["windows_are"] == "counted"
    assert after["windows"] <= before["windows"]
    written = summary(run_voc("extract", "--json"), "extract_train")["bytes"]
    assert written == pytest.approx(after["bytes_windows"], rel=0.15)  # Parquet's own few kB
    maps = ("--set", "features.store=maps")
    written = summary(run_voc("extract", "--json", *maps), "extract_train")["bytes"]
    assert written == pytest.approx(after["bytes_maps"], rel=0.5)
    assert written < after["bytes_maps"] * 1.2
    assert after["kind"] == 'features.store = "maps" (the recipe has "windows")'
    assert planned("--set", "features.layer=fc6")["kind"].startswith('features.store = "windows"')


def test_plan_takes_the_sizes_that_weights_record(voc: Path, spp: Run) -> None:
    root = voc.parent
    made = load("zf5", width=0.05, fc_units=16, levels=(2, 1))
    save(made, root / "w.safetensors")
    base = root / "tiny.toml"
    assert "width = 0.1\n" in base.read_text()
    base.write_text(base.read_text().replace("width = 0.1\n", 'weights = "w.safetensors"\n'))
    said = spp("plan", root / "voc.toml", "--data", root, "--runs", root / "runs", "--json")
    assert said.code == 0, said.err
    stores = json.loads(said.out)["stores"]
    vector_bytes = 2 * made.layer_size("pool5", (2, 1))
    for each in stores:
        assert each["bytes_windows"] == each["windows"] * (vector_bytes + SCALARS_BYTES)


@pytest.mark.parametrize("store_kind", ["windows", "maps"])
def test_shards_hold_as_many_images_and_bytes_as_the_recipe_says(
    run_voc: Run, store_kind: str
) -> None:
    kind = ("--set", f"features.store={store_kind}", "--json")
    said = summary(run_voc("extract", *kind), "extract_train")
    alone = summary(run_voc("extract", *kind, "--set", "features.shard_images=1"), "extract_train")
    small = summary(run_voc("extract", *kind, "--set", "features.shard_bytes=1"), "extract_train")
    assert said["shards"] < said["images"] == alone["shards"] == small["shards"]
