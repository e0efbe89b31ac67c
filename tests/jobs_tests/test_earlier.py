"""A set that has grown: what earlier jobs have of unchanged images is taken over."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.job_log import ShardTotals
from pipeline import store
from pipeline.windows.selective_search import selective_search

Run = Callable[..., Any]
SMALL = (
    "windows.method=selective_search",
    "windows.max_windows=40",
    "windows.working_side_px=60",
    "network.weights=random",
)


@pytest.fixture
def extract(run_voc: Run, voc: Path) -> Callable[..., dict[str, Any]]:
    """Bring the recipe to its features; return what the jobs said of themselves."""

    def run(runs: str = "runs", *changes: str) -> dict[str, Any]:
        options = [each for change in (*SMALL, *changes) for each in ("--set", change)]
        said = run_voc("extract", *options, "--runs", voc.parent / runs)
        assert said.code == 0, said.err
        last = json.loads((voc.parent / runs / "voc" / "run.json").read_text())["jobs"]
        folders = {job: voc.parent / runs / folder for job, folder in last.items()}
        read = {
            job: json.loads((folder / "done.json").read_text())["summary"]
            for job, folder in folders.items()
            if (folder / "done.json").is_file()
        }
        return {"folders": folders, "told": said.err, **read}

    return run


@pytest.fixture
def planned(spp: Run, voc: Path) -> Callable[..., str]:
    """What `spp plan` says of it."""

    def plan(*changes: str) -> str:
        options = [each for change in (*SMALL, *changes) for each in ("--set", change)]
        places = ("--data", voc.parent, "--runs", voc.parent / "runs")
        return spp("plan", voc.parent / "voc.toml", *places, *options).out

    return plan


def taken_in(plan: str) -> list[str]:
    """What it says of images that are taken over: projected, and measured."""
    (line,) = [line for line in plan.splitlines() if "of them taken over" in line]
    return line.removeprefix("of them taken over").partition("unchanged")[0].split()


@pytest.fixture(autouse=True)
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each search for windows, of which a table has those of few images."""
    seen: list[int] = []

    def search(*given: Any, **options: Any) -> Any:
        seen.append(1)
        return selective_search(*given, **options)

    monkeypatch.setattr("pipeline.windows.table.selective_search", search)
    monkeypatch.setattr("jobs.windows.CHUNK_IMAGES", 4)
    return seen


def grow(voc: Path, name: str, like: str) -> None:
    """Add an image to the training set."""
    for folder in ("JPEGImages", "Annotations"):
        found = next((voc / folder).glob(f"{like}.*"))
        shutil.copy(found, voc / folder / f"{name}{found.suffix}")
    listed = voc / "ImageSets" / "Main" / "train.txt"
    listed.write_text(f"{listed.read_text().rstrip()}\n{name}\n")


def files_of(made: dict[str, Any]) -> list[Any]:
    return [entry.files for entry in store.open(made["folders"]["extract_train"] / "store").shards]


def windows_of(made: dict[str, Any]) -> dict[str, bytes]:
    folder = made["folders"]["windows_train"] / "windows"
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", ["windows", "maps"])
def test_only_what_is_new_is_made(
    voc: Path,
    extract: Callable[..., dict[str, Any]],
    planned: Callable[..., str],
    searched: list[int],
    kind: str,
) -> None:
    stored = f"features.store={kind}"
    # The order of a list is nobody's but its own.
    listed = voc / "ImageSets" / "Main" / "train.txt"
    listed.write_text("\n".join(reversed(listed.read_text().split())))
    first = extract("runs", stored)
    assert ("taken_over" in first["extract_train"], "have their" in first["told"]) == (False, False)
    made = store.open(first["folders"]["extract_train"] / "store")
    assert len(made.shards) > 1
    ids = made.images["image_id"].to_pylist()
    grow(voc, "000_first", ids[3])  # before all others: it moves them to other chunks and shards
    assert taken_in(planned(stored)) == ["≤", "12"]
    searched.clear()
    grown = extract("runs", stored)
    assert len(searched) == 1
    anew = extract("anew", stored)
    assert grown["extract_train"]["taken_over"] == 12
    assert "taken_over" not in anew["extract_train"]
    assert files_of(grown) == files_of(anew)
    assert windows_of(grown) == windows_of(anew)
    assert grown["windows_train"] == anew["windows_train"]
    by = first["folders"]["extract_train"].name
    assert f"extract_train: 12 of 13 images have their rows from {by}" in grown["told"]
    by = first["folders"]["windows_train"].name
    assert f"windows_train: 12 of 13 images have their windows from {by}" in grown["told"]
    assert grown["folders"]["extract_test"] == first["folders"]["extract_test"]
    assert extract("runs", stored)["told"].count("have their") == 0  # nothing is to be done
    assert taken_in(planned(stored)) == ["≤", "12", "12"]  # as it was projected, and as it was


def test_images_that_change_sides_are_taken_along(
    voc: Path, extract: Callable[..., dict[str, Any]]
) -> None:
    extract()
    lists = voc / "ImageSets" / "Main"
    train, test = ((lists / f"{name}.txt").read_text().split() for name in ("train", "test"))
    (lists / "train.txt").write_text("\n".join([*train[2:], *test[:1]]))
    (lists / "test.txt").write_text("\n".join([*train[:2], *test[1:]]))
    divided, anew = extract(), extract("anew")
    assert divided["extract_train"]["taken_over"] == 11
    assert divided["extract_test"]["taken_over"] == 9
    assert files_of(divided) == files_of(anew)
    assert windows_of(divided) == windows_of(anew)


def test_what_has_changed_is_made(voc: Path, extract: Callable[..., dict[str, Any]]) -> None:
    first = extract()
    ids = store.open(first["folders"]["extract_train"] / "store").images["image_id"].to_pylist()
    image = next((voc / "JPEGImages").glob(f"{ids[0]}.*"))
    os.utime(image, (1, 1))
    # Other labels are other windows to extract; what was proposed is the same.
    labels = voc / "Annotations" / f"{ids[1]}.xml"
    text = labels.read_text()
    before = text[text.index("<xmin>") : text.index("</xmin>")]
    value = int(before.removeprefix("<xmin>"))
    labels.write_text(text.replace(f"{before}<", f"<xmin>{value + 1}<", 1))
    changed, anew = extract(), extract("anew")
    assert changed["extract_train"]["taken_over"] == 10
    assert "11 of 12 images have their windows from" in changed["told"]
    assert files_of(changed) == files_of(anew)
    assert windows_of(changed) == windows_of(anew)
    other = extract("runs", "features.scales=[120]")
    assert "taken_over" not in other["extract_train"]
    assert "have their" not in other["told"]
    shutil.rmtree(first["folders"]["extract_train"] / "store")
    shutil.rmtree(changed["folders"]["extract_train"] / "store" / "shards")
    grow(voc, "more", ids[2])
    assert "taken_over" not in extract()["extract_train"]


def test_windows_that_are_damaged_are_made_anew(
    voc: Path, extract: Callable[..., dict[str, Any]], searched: list[int]
) -> None:
    first = extract()
    table, *_ = sorted((first["folders"]["windows_train"] / "windows").iterdir())
    grow(voc, "more", pq.read_table(table)["image_id"][0].as_py())
    table.write_bytes(bytes(9))
    searched.clear()
    grown = extract()
    assert len(searched) == 5  # the new one, and those of one table
    anew = extract("anew")
    assert windows_of(grown) == windows_of(anew)
    assert grown["extract_train"]["taken_over"] == 12


def test_an_earlier_list_that_cannot_be_read_is_no_use(
    voc: Path, extract: Callable[..., dict[str, Any]]
) -> None:
    first = extract()
    like = store.open(first["folders"]["extract_train"] / "store").images["image_id"][0].as_py()
    grow(voc, "more", like)
    (first["folders"]["dataset_train"] / "images.parquet").write_bytes(bytes(99))
    (first["folders"]["extract_train"] / "images.parquet").unlink()
    grown, anew = extract(), extract("anew")
    assert ("taken_over" in grown["extract_train"], "have their" in grown["told"]) == (False, False)
    assert files_of(grown) == files_of(anew)


def test_nothing_is_taken_that_might_round_differently(
    voc: Path, extract: Callable[..., dict[str, Any]]
) -> None:
    for change in ("features.images_per_batch=2", "features.layer=fc6"):
        ids = store.open(extract("runs", change)["folders"]["extract_train"] / "store").images
        grow(voc, f"more_{change[-1]}", ids["image_id"][0].as_py())
        assert "taken_over" not in extract("runs", change)["extract_train"]


def test_nothing_is_taken_from_another_network(
    voc: Path, extract: Callable[..., dict[str, Any]]
) -> None:
    """Of one that a recipe trains, settings do not tell."""
    first = extract()
    made = first["folders"]["extract_train"] / "store" / "store.json"
    told = json.loads(made.read_text())
    made.write_text(json.dumps({**told, "network": "0" * len(told["network"])}))
    grow(voc, "more", store.open(made.parent).images["image_id"][0].as_py())
    assert "taken_over" not in extract()["extract_train"]


def test_seconds_are_of_images_that_were_made() -> None:
    totals = ShardTotals()
    totals.add({"shard_id": "a", "images": 10, "taken": 8, "total_s": 3.0})
    assert totals.stages()["worker"]["seconds_per_image"] is None
    totals.add({"shard_id": "b", "images": 4, "total_s": 5.0, "seconds": {"network": 4.0}})
    assert totals.taken == 8
    assert totals.stages()["worker"]["seconds_per_image"] == 1.25
    assert totals.stages()["bound_by"] == "network (50% of 8 s)"
