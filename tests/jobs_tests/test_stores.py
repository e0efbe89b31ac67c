"""The commands over stores, wherever they lie."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import stores
from pipeline import store
from pipeline.store.place import Place, place
from tests import small_store
from tests.s3 import BUCKET

Run = Callable[..., Any]


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A finished store of two shards."""
    where = place(tmp_path / "store")
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        where = place(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    small_store.make(where)
    return where


def test_a_whole_store(root: Place, spp: Run) -> None:
    whole = spp("verify", str(root))
    assert (whole.code, whole.out) == (0, "2 shards, 12 rows: whole\n")
    said = json.loads(spp("verify", str(root), "--json").out)
    assert said == {"shards": 2, "rows": 12, "faults": []}
    counted = spp("query", str(root), "SELECT count(*) AS n FROM windows", "--json")
    assert json.loads(counted.out) == [{"n": 12}]
    assert spp("fsck", str(root)).out == "nothing to mend\n"
    assert json.loads(spp("fsck", str(root), "--json").out) == []
    assert spp("gc", str(root)).out == "no garbage\n"


def test_from_a_fault_to_a_whole_store(root: Place, spp: Run) -> None:
    name = store.open(root).shards[1].name("shards")
    root.replace(name, b"x")
    broken = spp("verify", str(root))
    assert broken.code == 1
    says = f"00001 {name} has 1 bytes, its record says "
    assert broken.out.startswith(says)
    assert broken.out.endswith(f"to mend: spp fsck {root}, then run the recipe again\n")
    as_json = spp("verify", str(root), "--json")
    assert as_json.code == 1
    (fault,) = json.loads(as_json.out)["faults"]
    assert fault["shard_id"] == "00001"
    mended = spp("fsck", str(root))
    assert mended.code == 1  # it cannot be read until that shard is made again
    assert mended.out.splitlines()[0].startswith(f"shard 00001: {name} has 1 bytes")
    assert spp("verify", str(root)).err == f"error: {root} is not finished: run its recipe again\n"
    assert small_store.make(root) == ["00001"]
    assert spp("verify", str(root)).code == 0


def test_a_lost_manifest_is_mended_and_all_is_well(root: Place, spp: Run) -> None:
    root.remove("manifest.json")
    assert spp("fsck", str(root)).code == 0
    assert spp("verify", str(root)).code == 0


def test_of_many_faults_the_first_are_shown(root: Place, spp: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr(stores, "FAULTS_SHOWN", 1)
    for entry in store.open(root).shards:
        root.replace(entry.name("shards"), b"x")
    lines = spp("verify", str(root)).out.splitlines()
    assert lines[0].startswith("00000 ")
    assert lines[1] == "… and 1 more: --json has all"
    assert len(json.loads(spp("verify", str(root), "--json").out)["faults"]) == 2


def test_images_that_are_gone(root: Place, spp: Run) -> None:
    changed = spp("verify", str(root), "--images")
    assert changed.code == 1
    says = "was made from image files that have changed since"
    assert [line.partition(",")[0] for line in changed.out.splitlines()[:2]] == [
        f"0000{k} {says}" for k in (0, 1)
    ]
    (cure,) = changed.out.splitlines()[2:]
    assert cure == (
        "the images have changed since the store was made: put the old ones back, or run the "
        "recipe again to make a new store (a run does not notice changes that keep a file's size "
        "and time)"
    )


def test_garbage_is_listed_before_it_is_removed(root: Place, spp: Run) -> None:
    name = "shards/00000-0123456789ab.parquet"
    root.replace(name, b"seven")
    foreign = spp("verify", str(root))
    assert foreign.code == 1
    assert foreign.out.endswith(f"removes what attempts left\nto tidy up: spp gc {root} --remove\n")
    assert spp("gc", str(root)).out == "no garbage\n"  # it is young
    listed = spp("gc", str(root), "--older-than", "0")
    assert listed.out == (
        f"{name} 5 bytes: written by an attempt that was not committed\n"
        "1 files, 5 bytes, older than 0 hours, can be removed: --remove does\n"
    )
    (found,) = json.loads(spp("gc", str(root), "--older-than", "0", "--json").out)
    assert found["name"] == name
    assert root.read(name) == b"seven"
    removed = spp("gc", str(root), "--older-than", "0", "--remove")
    assert removed.out.endswith("1 files, 5 bytes, older than 0 hours, removed\n")
    assert root.read(name) is None
    assert spp("gc", str(root), "--older-than", "-1").code == 2
