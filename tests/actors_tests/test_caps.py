"""Where more extractors cannot start, those that are there do the work; another is tried later."""

from pathlib import Path

import pytest

from actors import policy
from tests.actors_tests.script import Script, wait_until
from tests.actors_tests.scripted import Events, extract, hurry, kinds

pytestmark = pytest.mark.usefixtures("ray_cluster", "quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def test_where_only_one_can_start_one_does_it_all(tmp_path: Path) -> None:
    # As where there is memory for one network: the second one dies whenever it starts, and does so
    # three times before it is left at that; meanwhile the gate is closed.
    gated = {name: ["gate"] for name in "abcdef"}
    script = Script(tmp_path, {"start": ["ok", "die"], **gated})

    def watch(events: Events) -> None:
        wait_until(lambda: kinds(events).count("actor_died") == 3, 60)
        script.open()

    found, events = extract(script, *"abcdef", meanwhile=watch, retries=0)
    assert found == {name: f"{name} done" for name in "abcdef"}
    assert kinds(events).count("actor_started") == 1


def test_where_only_one_could_start_another_is_tried_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As above, until somebody else gives memory back: what holds the second one up is over.
    monkeypatch.setattr(policy, "CAPPED_S", 0.5)
    gated = {name: ["gate"] for name in "abcdef"}
    script = Script(tmp_path, {"start": ["ok", "die", "die", "die", "ok"], **gated})

    def watch(events: Events) -> None:
        wait_until(lambda: kinds(events).count("actor_started") == 2, 60)
        script.open()

    found, events = extract(script, *"abcdef", meanwhile=watch, retries=0)
    assert found == {name: f"{name} done" for name in "abcdef"}
    assert kinds(events).count("actor_died") == 3
