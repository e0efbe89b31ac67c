"""What a driver tells of shards that another one committed."""

import json
import threading
from pathlib import Path

import pytest

from jobs.events import Events
from jobs.telling import ShardLog
from pipeline.store.place import place
from tests import small_store


def test_shards_of_a_dead_driver_are_told_of_once_in_order_and_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = place("memory://test_telling/store")
    small_store.make(root)
    read, both = type(root).read, threading.Barrier(2, timeout=10)
    names: list[str] = []

    def met(self: object, name: str) -> bytes | None:
        names.append(name)
        both.wait()  # each read is a request: one after the other they would never meet
        return read(self, name)  # type: ignore[arg-type]

    monkeypatch.setattr(type(root), "read", met)
    for _ in range(2):
        ShardLog(Events(tmp_path / "events.jsonl")).found(root)
    assert sorted(names) == ["records/00000.json", "records/00001.json"]  # the first time only
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    keys = ("kind", "shard_id", "rows", "images", "quarantined", "found")
    assert [tuple(event[key] for key in keys) for event in told] == [
        ("shard_committed", "00000", 7, 2, 0, True),
        ("shard_committed", "00001", 5, 1, 1, True),
    ]
