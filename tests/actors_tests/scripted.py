"""Runs of extractors by script: what each try of each shard does."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from actors import crew, policy, pool, trust
from actors.runner import RayRunner
from pipeline import config
from pipeline.store import ShardPlan
from tests.actors_tests.script import Script, Scripted


def plans(*names: str) -> list[ShardPlan]:
    return [ShardPlan(name, (name,), 1, 1) for name in names]


Events = list[tuple[str, dict[str, Any]]]


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have extractors by script, and little patience."""
    monkeypatch.setattr(crew, "Extractor", Scripted)
    monkeypatch.setattr(pool, "WATCH_S", 0.2)
    monkeypatch.setattr(crew, "WAITING_S", 0.5)
    monkeypatch.setattr(trust, "PAUSES_S", (0.0,))
    monkeypatch.setattr(policy, "SLOW_S", 1.5)


def extract(
    script: Script,
    *names: str,
    meanwhile: Callable[[Events], None] = lambda _: None,
    **settings: Any,
) -> tuple[dict[str, Any], Events]:
    """Return the result of each shard, each answered once, and what was told.

    Meanwhile somebody looks at what is told, and opens gates.
    """
    told: Events = []

    def note(kind: str, **fields: Any) -> None:
        told.append((kind, fields))

    with ThreadPoolExecutor(1) as beside:
        looking = beside.submit(meanwhile, told)
        chosen: Any = (script, plans(*names), config.Extractor(**settings), note)
        found = [(each.key, each.result) for each in RayRunner().extract(*chosen)]
        looking.result()
    assert len(found) == len(dict(found)), "a shard was answered twice"
    return dict(found), told


def kinds(events: Events) -> list[str]:
    return [kind for kind, _ in events]
