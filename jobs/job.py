"""What a job is, and how far one is in its place on disk."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobs.context import DONE, ERROR, STORE, TASKS, Context
from jobs.hold import is_held, was_held
from jobs.outputs import damage
from pipeline.config import Recipe
from pipeline.store.files import read_json


@dataclass(frozen=True)
class Job:
    """One step: what it does, what it needs, and what of the recipe it reads."""

    name: str
    run: Callable[[Context], dict[str, Any]]
    """Writes into `context.folder`; returns a summary for people."""
    needs: tuple[str, ...] = ()
    reads: Callable[[Recipe], Any] = lambda _: None
    """The part of the recipe, and the fingerprint of files outside, that decide the output."""
    version: int = 1
    """Raised when the job's code starts to give other output for the same input."""
    sound: Callable[[Path, dict[str, Any]], str | None] = lambda *_: None
    """What is wrong with a done job's store, told quickly from its folder and its summary."""
    shares: str = ""
    """Job whose output this one's would be, with the same settings: they share a folder."""


class State(StrEnum):
    """How far a job is."""

    done = "done"
    running = "running"
    """A process holds its folder."""
    failed = "failed"
    interrupted = "interrupted"
    """It was begun, and whoever began it is gone without a word."""
    blocked = "blocked"
    """A job that it needs failed."""
    waiting = "waiting"


@dataclass(frozen=True)
class Step:
    """A job with its place on disk."""

    job: Job
    folder: Path
    settings: str = ""
    """Digest of what the job reads of the recipe, and of its version: not of what it needs."""

    @property
    def record(self) -> dict[str, Any] | None:
        """What `done.json` says, or None while the job is not done."""
        return read_json(self.folder / DONE)

    @property
    def state(self) -> State:
        """How far it is, whoever is at work on it; by itself it is never blocked."""
        if self.record is not None:
            return State.done
        if is_held(self.folder):
            return State.running
        if (self.folder / ERROR).exists():
            return State.failed
        return State.interrupted if was_held(self.folder) else State.waiting

    @property
    def store(self) -> str:
        """Where its store lies, or will lie; of jobs that make one."""
        told = (self.record or {}).get("summary", {}).get("store")
        return told or str(self.folder / STORE)

    @property
    def damage(self) -> str | None:
        """What is wrong with the output of a done job."""
        record = self.record
        if record is None:
            return None
        return damage(self.folder, record) or self.job.sound(self.folder, record["summary"])

    def take_back(self) -> None:
        """Let the job run again; of what it made by tasks, all."""
        shutil.rmtree(self.folder / TASKS, ignore_errors=True)  # first: they say that all is made
        (self.folder / DONE).unlink(missing_ok=True)
