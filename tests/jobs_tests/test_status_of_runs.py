"""What is seen of a run at work in another process, killed there, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs import options
from jobs.events import read_events
from pipeline import store

pytestmark = pytest.mark.slow

PROJECT = Path(options.__file__).parents[1]
# Shards that take long enough to be caught at: a wider network, larger images, one image each.
SLOW = ["--set", "features.scales=[480]", "--set", "network.width=0.4"]
SHARDS = 40


@contextmanager
def command(out: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `spp` in a process of its own, which does not outlive the block.

    What it says goes into a file: it may be more than a pipe holds that nobody reads.
    """
    file = out.open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        cwd=PROJECT,
        stdout=file,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # A shell's background jobs ignore it, and so would this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    file.close()
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def committed_lines(folder: Path) -> list[dict[str, Any]]:
    told = (event for event, _ in read_events(folder / "events.jsonl"))
    return [event for event in told if event["kind"] == "shard_committed"]


def reconcile(folder: Path) -> None:
    """Hold the log of an extraction against the manifest of what it made."""
    made = store.open(folder / "store")
    totals = made.totals
    lines = {line["shard_id"]: line for line in committed_lines(folder)}
    ids = {path.stem for path in (folder / "store" / "records").iterdir()}
    assert set(lines) == ids
    assert len(ids) == len(made.shards)
    for name in ("rows", "bytes", "images"):
        assert sum(line[name] for line in lines.values()) == getattr(totals, name)
    done = json.loads((folder / "done.json").read_text())["summary"]
    spent = sum(line["seconds"].get("network", 0) for line in committed_lines(folder))
    assert done["worker_seconds"]["network"] == pytest.approx(spent, abs=0.006)  # both rounded


def test_a_run_is_seen_at_work_dead_and_done(tiny: Path, spp: Callable[..., Any]) -> None:
    runs = tiny.parent / "runs"
    tiny.write_text(tiny.read_text().replace("train_images = 12", f"train_images = {SHARDS}"))
    asked = [tiny, "--runs", runs, *SLOW]

    def row() -> dict[str, Any]:
        (row,) = (
            row
            for row in json.loads(spp("status", *asked, "--json").out)
            if row["job"] == "extract_train"
        )
        return row

    looks, said = tiny.parent / "looks", tiny.parent / "said"
    with command(looks, "status", *asked, "--watch", "--every", "0.2", "--json") as watching:
        with command(said, "run", *asked, "--serial") as running:
            end = time.monotonic() + 60
            while not (told := row()["progress"]) or not told["done"]:
                assert running.poll() is None, said.read_text()
                assert time.monotonic() < end
                time.sleep(0.01)
            assert row()["state"] == "running"
            assert row()["begun_by"]["pid"] == running.pid
            running.kill()
        dead = row()
        (folder,) = runs.glob("jobs/extract_train-*")
        records = list((folder / "store" / "records").iterdir())
        assert dead["state"] == "interrupted"
        # The kill may have come between a shard's commit and its line.
        assert dead["progress"]["done"] in (len(records) - 1, len(records))
        assert dead["progress"]["total"] == SHARDS
        assert 0 < len(records) < SHARDS
        assert watching.poll() is None  # it may go on any time

        # As if it had come in the middle of a line.
        log = folder / "events.jsonl"
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[:-1]) + lines[-1][:30])

        with command(said, "run", *asked, "--serial") as again:
            assert again.wait(timeout=60) == 0
        assert watching.wait(timeout=30) == 0

    rows = [json.loads(line) for line in looks.read_text().splitlines()]
    assert {each["state"] for each in rows[-1]} == {"done"}
    seen = [each["state"] for look in rows for each in look if each["job"] == "extract_train"]
    assert seen[0] == "waiting"
    assert "interrupted" in seen
    for split in ("train", "test"):
        (folder,) = runs.glob(f"jobs/extract_{split}-*")
        reconcile(folder)
    found = [
        line for line in committed_lines(next(runs.glob("jobs/extract_train-*"))) if "found" in line
    ]
    assert len(found) in (1, 2)  # the kill may have come there by itself
    told = [event["kind"] for event, _ in read_events(runs / "tiny" / "events.jsonl")]
    assert told == ["run_started", "run_started", "run_finished"]


def test_an_interrupted_run_says_so(tiny: Path) -> None:
    runs = tiny.parent / "runs"
    said = tiny.parent / "said"
    with command(said, "run", tiny, "--runs", runs, *SLOW, "--serial") as running:
        end = time.monotonic() + 60
        while not list(runs.glob("jobs/extract_train-*/store/records/*.json")):
            assert time.monotonic() < end
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
    (log,) = runs.glob("jobs/extract_train-*/events.jsonl")
    for path in (log, runs / "tiny" / "events.jsonl"):
        *_, (last, _) = read_events(path)
        assert (last["kind"], last["pid"]) == ("run_interrupted", running.pid)
