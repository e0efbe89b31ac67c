"""What a person should know of an extraction's workers is said, and all of it is written down."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.progress import Progress
from actors.serial import SerialRunner
from jobs.context import Context
from jobs.events import Events
from jobs.telling import Notes
from pipeline.config import Recipe

RECIPE = Recipe.model_validate({"name": "toy", "dataset": {"kind": "digits"}})


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def notes(tmp_path: Path, screen: io.StringIO) -> Notes:
    events, progress = Events(tmp_path / "events.jsonl"), Progress(Console(file=screen, width=40))
    return Notes(Context(RECIPE, SerialRunner(), tmp_path, {}, progress, "extract_train", events))


def test_a_run_that_waits_for_room_says_what_it_asks_for_and_what_there_is(
    notes: Notes, screen: io.StringIO, tmp_path: Path
) -> None:
    told: dict[str, Any] = {"asked": "3 CPUs, 1 GPUs", "cluster": "7 CPUs, 0 GPUs"}
    notes("waiting_for_room", waiting=2, up=5, **told)
    assert screen.getvalue() == (
        "extract_train: 5 extractors at work, and 2 wait until other jobs leave 3 CPUs, 1 GPUs for "
        "each; the cluster has 7 CPUs, 0 GPUs in all\n"
    )
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line).items() >= {"kind": "waiting_for_room", "waiting": 2, **told}.items()


def test_a_sick_extractor_is_named_with_the_last_error(notes: Notes, screen: io.StringIO) -> None:
    notes("actor_sick", worker="10.0.0.3:17", up=5, reason="3 failed; the last said: OSError: /tmp")
    assert screen.getvalue() == (
        "extract_train: extractor 10.0.0.3:17 gets no more work: 3 failed; the last said: "
        "OSError: /tmp\n"
    )


def test_the_rest_is_written_down_alone(notes: Notes, screen: io.StringIO, tmp_path: Path) -> None:
    notes("actor_started", worker="10.0.0.3:17", up=1, seconds=2.5)
    assert screen.getvalue() == ""
    assert "actor_started" in (tmp_path / "events.jsonl").read_text()


def test_that_extractors_decode_themselves_is_said_once(notes: Notes, screen: io.StringIO) -> None:
    notes.decoded_here(0)
    assert screen.getvalue() == ""
    notes.decoded_here(7)
    notes.decoded_here(11)
    assert screen.getvalue().count("no CPU is free for decoding") == 1
