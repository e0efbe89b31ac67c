"""Projected, probed, and then held against what a run took."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.plan import screen

Run = Callable[..., Any]


@pytest.fixture
def planned(voc: Path, spp: Run) -> Callable[..., dict[str, Any]]:
    root = voc.parent

    def plan(*options: str) -> dict[str, Any]:
        places = ("--data", root, "--runs", root / "runs", "--json")
        said = spp("plan", root / "voc.toml", *places, *options)
        assert said.code == 0, said.err
        return json.loads(said.out)

    return plan


@pytest.mark.slow
def test_a_probe_is_held_against_the_run(planned: Run, run_voc: Run, voc: Path) -> None:
    runs = voc.parent / "runs"
    probed = planned("--probe", "--workers", "3", "--price", "2")
    probe = probed["projected"]["probe"]
    assert probe["images"] >= 6
    assert probe["extract_range_s"][0] <= probe["extract_s"] <= probe["extract_range_s"][1]
    assert probe["windows_range_s"][0] <= probe["windows_s"] <= probe["windows_range_s"][1]
    assert probe["startup_s"] > 0
    assert set(probe["stages_s"]) == {"decode", "network", "pooling", "write"}
    assert probe["bound_by"] in probe["stages_s"]
    assert probe["peak_bytes"] <= probed["projected"]["memory"]["bytes"]
    assert list(runs.glob("probe-*")) == []
    one, three = probed["hours"]["for"]
    assert (one["workers"], three["workers"]) == (1, 3)
    assert three["price"] == pytest.approx(3 * three["total_s"] / 3600 * 2)
    run_voc("windows")
    before = planned()  # counted by now; what was probed stays
    assert before["projected"]["probe"] == probe
    assert before["projected"]["windows_are"] == "counted"
    assert before["measured"].get("rows") is None
    run_voc("run")
    after = planned("--seconds-per-image", "5")
    assert after["projected_when"] == "before the run"
    assert {**after["projected"], "rates": 0, "probe": 0} == {
        **before["projected"],
        "rates": 0,
        "probe": 0,
    }
    found, projected = after["measured"], after["projected"]
    for name, count in (("images", 20), ("rows", projected["windows"])):
        assert found[name] == count
    assert found["shards"] == projected["shards"]
    assert found["extract_s"] > 0
    assert found["peak_bytes"] > 0
    assert found["bytes"].keys() == projected["bytes"].keys()
    assert found["bytes"]["store"] == pytest.approx(projected["bytes"]["store"], rel=0.15)
    assert set(found["job_seconds"]) >= {"extract_train", "mine", "evaluate"}
    assert planned()["projected"]["probe"] == probe  # what was told is not kept
    text = "\n".join(screen.lines(after))
    assert "measured" in text.splitlines()[1]
    assert "took by the clock" in text


def test_seconds_that_are_told_need_no_probe(planned: Run) -> None:
    # 20 images in single shards: eight workers take three rounds, of one image each
    alone = ("--set", "features.shard_images=1")
    answer = planned("--seconds-per-image", "7", "--workers", "8", "--price", "0.5", *alone)
    one, eight = answer["hours"]["for"]
    assert (one["rounds"], one["total_s"], one["windows_s"]) == (20, 140, None)
    assert (eight["rounds"], eight["total_s"]) == (3, 21)
    assert one["price"] == pytest.approx(140 / 3600 * 0.5)
    assert eight["price"] == pytest.approx(8 * 21 / 3600 * 0.5)
    stored = sum(each["bytes_windows"] for each in answer["stores"])
    assert eight["bytes_per_s"] == pytest.approx(8 * stored / 20 / 7)
    assert answer["projected"]["probe"] is None
    assert planned(*alone)["hours"]["for"][0]["total_s"] == 140  # kept, for it was not run yet
    assert planned()["hours"] is None  # other shards: nobody has told


def test_a_run_that_nobody_planned_says_so(planned: Run, run_voc: Run) -> None:
    run_voc("extract", "--set", "features.store=maps")
    answer = planned("--set", "features.store=maps")
    assert answer["projected_when"] == "after the run"
    assert answer["hours"]["source"] == "as the run took, for features alone"
    text = "\n".join(screen.lines(answer))
    assert "store of maps" in text
    assert "nobody planned this before it ran" in text
    found, most = answer["measured"]["bytes"]["store"], answer["projected"]["bytes"]["store"]
    assert found < most * 1.2
    assert answer["projected"]["memory"]["parts"].keys() & {"vectors", "row groups"} == set()


def test_lines_are_few_and_aligned(planned: Run) -> None:
    answer = planned("--seconds-per-image", "0.5", "--workers", "1000", "--price", "3")
    lines = list(screen.lines(answer))
    assert len(lines) < 25
    table = lines[1:-3]
    assert len({line.find("projected") + 9 for line in table[:1]}) == 1
    ends = {len(line[: line.index("GB")]) for line in table if "GB" in line and "≤" in line}
    assert len(ends) == 1
    assert any("1,000 workers" in line and "idle" in line for line in lines)
    assert "recommended: features.store" in lines[-1]
    assert not any(
        "bytes" in line for line in lines if "extractor." not in line and "svm" not in line
    )
