"""Stores that lie somewhere else: in another folder, and on an object store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import store
from pipeline.store.place import Place, place
from pipeline.store.records import record_name
from tests.s3 import BUCKET, Failing

NAMES = ("shards", "records", "")
PATHS = ("images.parquet", "tables.json")


def content(root: Place) -> dict[str, bytes | None]:
    """All files of a store but those that tell where the images lie, and the digest of that."""
    names = [f"{folder}/{name}".strip("/") for folder in NAMES for name in root.listing(folder)]
    return {name: root.read(name) for name in names if name not in PATHS}


@pytest.fixture
def local(tiny: Path, spp: Callable[..., Any]) -> Path:
    """A run with its stores in the run directory."""
    runs = tiny.parent / "local"
    assert spp("run", tiny, "--serial", "--runs", runs).code == 0
    return runs


@pytest.fixture(params=["folder", "s3"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "else where")
    request.getfixturevalue("s3_server")
    return f"s3://{BUCKET}/{tmp_path.name}/"


def test_a_run_with_its_stores_elsewhere_ends_as_any_other(
    local: Path, stores: str, tiny: Path, spp: Callable[..., Any]
) -> None:
    runs = tiny.parent / "runs"
    command = ("run", tiny, "--serial", "--runs", runs, "--stores", stores)
    said = spp(*command)
    assert said.code == 0
    for folder in local.glob("jobs/*"):
        if folder.name.startswith("extract"):
            there = place(f"{stores.rstrip('/')}/{folder.name}")
            assert content(there) == content(place(folder / "store"))
            assert f"store {there}" in said.err
            assert not (runs / "jobs" / folder.name / "store").exists()
    for name in ("evaluate-*/ap.json", "mine-*/classifiers.safetensors"):
        (path,) = local.glob(f"jobs/{name}")
        assert (runs / path.relative_to(local)).read_bytes() == path.read_bytes()

    # It is done, also for who does not say again where the stores are.
    again = spp("run", tiny, "--serial", "--runs", runs, "--json")
    assert again.code == 0
    assert "made again" not in again.err
    (row,) = (row for row in json.loads(again.out) if row["job"] == "extract_train")
    assert spp("verify", row["summary"]["store"]).code == 0
    query = "SELECT count(*) AS n FROM windows"
    counted = json.loads(spp("query", row["summary"]["store"], query, "--json").out)
    assert counted == [{"n": row["summary"]["rows"]}]


def test_what_is_lost_there_is_made_again(stores: str, tiny: Path, spp: Callable[..., Any]) -> None:
    runs = tiny.parent / "runs"
    command = ("extract", tiny, "--serial", "--runs", runs, "--stores", stores)
    assert spp(*command).code == 0
    (folder,) = runs.glob("jobs/extract_train-*")
    root = place(f"{stores.rstrip('/')}/{folder.name}")
    whole = content(root)
    lost = store.open(str(root)).shards[2].name("shards")
    root.remove(lost)
    looked = spp("status", tiny, "--runs", runs)
    assert f"✗ extract_train is done, but {root}/{lost} is missing: the next run" in looked.out
    said = spp(*command)
    assert said.code == 0
    assert f"extract_train: {root}/{lost} is missing" in said.err
    kept = len(store.open(root).shards) - 1
    assert f"extract_train: {kept} of {kept + 1} shards are there already" in said.err
    assert content(root) == whole


def test_an_unfinished_store_with_damaged_records_is_finished_by_the_next_run(
    stores: str, tiny: Path, spp: Callable[..., Any]
) -> None:
    """One record can be rebuilt, and of two shards the rows are gone: these are made again."""
    runs = tiny.parent / "runs"
    command = ("extract", tiny, "--serial", "--runs", runs, "--stores", stores)
    assert spp(*command).code == 0
    (folder,) = runs.glob("jobs/extract_train-*")
    root = place(f"{stores.rstrip('/')}/{folder.name}")
    whole, shards = content(root), store.open(root).shards
    for each in shards[:2]:
        name = record_name(each.shard_id)
        root.replace(name, (whole[name] or b"")[:-30])
    for each in shards[1:3]:
        root.remove(each.name("shards"))
    root.remove("manifest.json")
    before = root.listing("records")
    said = spp(*command)
    assert said.code == 0
    ids = [each.shard_id for each in shards]
    for line in (
        f"shard {ids[0]}: its record cannot be read; the record is rebuilt from the rows",
        f"shard {ids[1]}: its record cannot be read; its record is dropped, and it must be made",
        f"shard {ids[2]}: {shards[2].name('shards')} is missing; its record is dropped, and it",
    ):
        assert f"extract_train: {line}" in said.err
    assert content(root) == whole
    after = root.listing("records")
    assert [name for name in after if after[name] == before[name]] == [f"{k}.json" for k in ids[3:]]
    assert spp("verify", str(root)).code == 0


def test_a_kind_of_place_that_does_not_exist(tiny: Path, spp: Callable[..., Any]) -> None:
    said = spp("extract", tiny, "--serial", "--runs", tiny.parent / "runs", "--stores", "ftp://a/b")
    assert said.code == 1
    assert "ftp://" in said.err
    assert "Traceback" not in said.err


def test_who_may_write_and_not_remove_can_extract(
    s3_server: Any, tmp_path: Path, tiny: Path, spp: Callable[..., Any]
) -> None:
    stores = f"s3://{BUCKET}/{tmp_path.name}"
    s3_server.failing.append(Failing("DELETE", tmp_path.name, 1000, "403"))
    try:
        said = spp("extract", tiny, "--serial", "--runs", tiny.parent / "runs", "--stores", stores)
    finally:
        s3_server.failing.clear()
    assert said.code == 0
    (left,) = place(stores).listing("")
    assert f"{stores}/{left}, a few bytes written to try the place, stays there" in said.err
    assert "PermissionError" in said.err


def test_a_mistyped_bucket_is_said_before_anything_runs(
    s3_server: object, tiny: Path, spp: Callable[..., Any]
) -> None:
    runs = tiny.parent / "runs"
    said = spp("extract", tiny, "--serial", "--runs", runs, "--stores", "s3://sqp/stores")
    assert said.code == 1
    assert "is there a bucket sqp? Correct the address, or make the bucket" in said.err
    assert not list(runs.glob("jobs/*"))
