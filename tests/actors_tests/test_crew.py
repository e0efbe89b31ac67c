"""When a crew does with fewer, and when it gives up, by starts that are told and not made."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError

from actors import cluster, crew
from actors.crew import Crew
from actors.ledger import Outcome
from actors.resources import Resources
from actors.worker import Worker
from pipeline.errors import SppError

Start = Callable[..., None]


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Those that are there, each with room for many; and a Ray that starts nothing."""
    there = {"old"}
    stubs = {"put": lambda content: content, "kill": lambda handle: None}
    for name, stub in stubs.items():
        monkeypatch.setattr(ray, name, stub)
    monkeypatch.setattr(ray, "wait", lambda refs, **_: ([], refs))
    monkeypatch.setattr(cluster, "alive", lambda: set(there))
    monkeypatch.setattr(cluster, "drained", set)
    monkeypatch.setattr(cluster, "can_grow", lambda *_: False)
    monkeypatch.setattr(cluster, "free_room", lambda *_: 4)
    handle = SimpleNamespace(remote=object)
    made = SimpleNamespace(remote=lambda _: SimpleNamespace(place=handle, ready=handle))
    monkeypatch.setattr(crew, "Extractor", SimpleNamespace(options=lambda **_: made))
    return there


@pytest.fixture
def members(machines: set[str]) -> Crew:
    each: Any = Resources(retries=2)
    spec: Any = None
    return Crew(spec, each, 1, 2, lambda *_, **__: None)


@pytest.fixture
def start(members: Crew, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Ask for as many as the crew wants now; the first of those on their way comes up, or dies."""

    def go(comes_up: bool, machine: str = "old") -> None:
        members.fit(left=6, slow=0)
        ref = next(ref for ref in members.starting if members._starting[ref].ready is ref)
        error = None if comes_up else ActorDiedError()
        outcome = Outcome("start", Worker(machine, "127.0.0.1", 1), error)
        monkeypatch.setattr(crew, "outcome_of", lambda *_: outcome)
        members.started(ref)

    return go


def test_where_more_cannot_start_a_crew_does_with_those_that_are_up(
    members: Crew, start: Start
) -> None:
    start(True)
    for _ in range(5):  # two retries, and two that are wanted; the next one is too many
        start(False)
    members.fit(left=6, slow=0)
    assert len(members.up) == len(members._all) == 1


def test_a_cap_outlives_no_extractor(members: Crew, start: Start) -> None:
    """Its heir may fail as often as the first one might have."""
    test_where_more_cannot_start_a_crew_does_with_those_that_are_up(members, start)
    members.end(members.up[0], "actor_died")
    for _ in range(3):
        start(False)
    start(True)
    assert len(members.up) == 1


def test_a_crew_of_which_nobody_can_start_gives_up(members: Crew, start: Start) -> None:
    def until_it_ends() -> None:
        for _ in range(9):
            start(False)

    with pytest.raises(SppError, match=r"extractors die while they start, 5 did"):
        until_it_ends()


def test_a_cap_outlives_no_machine_that_comes(
    members: Crew, start: Start, machines: set[str]
) -> None:
    """There a start may fail, too, without an end to all others."""
    test_where_more_cannot_start_a_crew_does_with_those_that_are_up(members, start)
    machines.add("new")
    for _ in range(3):
        start(False)
    start(True)
    assert len(members.up) == 2
