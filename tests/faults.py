"""Faults on demand: a script of what goes wrong, at which step of the store's work, and how.

A script is a list of mappings, and travels in the environment as JSON:

    [{"step": "create_record", "nth": 2, "do": "kill"}]

| key | |
|---|---|
| step | one of `STEPS`, or `disk`: any call of the operating system that changes a disk |
| nth | which call of that step, from 1, in this process |
| when | `before` (default) or `after` the step |
| do | `kill`, `power_loss`, `eio`, `enospc`, `short_write`, `fail_rename` |
| roots | of `power_loss`: folders that lose what was not synced since the beginning |
| once | a file to create when it happens; where it exists, it does not happen again |

`installed(script)` is for this process. Workers of Ray take it from the environment, given
`tests.faults.install_from_environment` as their `worker_process_setup_hook`. Production code knows
nothing of all this: only names of its methods are used.
"""

import errno
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "SPP_FAULTS"

# By name: the classes that have the method, the method, and how the file's name begins.
PLACES = ("pipeline.store.local.LocalFolder", "pipeline.store.objects.ObjectStore")
STEPS: Mapping[str, tuple[Sequence[str], str, str]] = {
    "claim": (PLACES, "create", "store.json"),
    "write_labels": (PLACES, "bring", "images.parquet"),
    "write_rows": (("pipeline.store.shards.ShardWriter",), "write", ""),
    "check": (("pipeline.store.writing.ParquetPart",), "check", ""),
    "finish": (("pipeline.store.writing.GrowingFile",), "finish", ""),
    "bring_maps": (PLACES, "bring", "maps/"),
    "bring_rows": (PLACES, "bring", "shards/"),
    "create_record": (PLACES, "create", "records/"),
    "remove": (PLACES, "remove", ""),
    "write_manifest": (PLACES, "replace", "manifest.json"),
}
DISK = ("fsync", "link", "rename", "unlink", "mkdir")

Script = Sequence[Mapping[str, Any]]


def install_from_environment() -> None:
    """Take the script of the environment, for the rest of this process."""
    patch = pytest.MonkeyPatch()
    _install(json.loads(os.environ.get(VARIABLE, "[]")), patch)


@contextmanager
def installed(script: Script) -> Iterator["Faults"]:
    """Follow a script for as long as the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        yield _install(script, patch)


def _install(script: Script, patch: pytest.MonkeyPatch) -> "Faults":
    faults = Faults(script)
    for step, (classes, method, start) in STEPS.items():
        for name in classes:
            target = f"{name}.{method}"
            patch.setattr(target, faults.wrapped(step, start, _found(target)))
    # Of the whole process: for scripts that name it, or that count calls.
    for method in DISK if not script or any(each["step"] == "disk" for each in script) else ():
        patch.setattr(os, method, faults.wrapped("disk", "", getattr(os, method)))
    losses = [each for each in script if each["do"] == "power_loss"]
    if losses:
        faults.disk = Disk(patch, [Path(root) for root in losses[0]["roots"]])
    return faults


def _found(target: str) -> Callable[..., Any]:
    module, kind, method = target.rsplit(".", 2)
    return getattr(getattr(__import__(module, fromlist=[kind]), kind), method)


class Faults:
    """Counts calls, and does what the script says."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.calls: Counter[str] = Counter()
        self.disk: Disk | None = None

    def wrapped(self, step: str, start: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with faults; `start`: of the file's name, where that decides."""

        def call(*arguments: Any, **options: Any) -> Any:
            names = [each for each in arguments if isinstance(each, str)]
            if start and not any(name.startswith(start) for name in names):
                return function(*arguments, **options)
            self.calls[step] += 1
            asked = (step, self.calls[step])
            due = [e for e in self._script if (e["step"], e.get("nth", 1)) == asked]
            due = [each for each in due if _first_time(each)]
            with _during(step, due, arguments):
                self._at(due, "before")
                answer = function(*arguments, **options)
            self._at(due, "after")
            return answer

        return call

    def _at(self, due: Script, when: str) -> None:
        for each in due:
            if each.get("when", "before") != when:
                continue
            match each["do"]:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "power_loss":
                    assert self.disk is not None
                    self.disk.lose()
                    os.kill(os.getpid(), signal.SIGKILL)
                case "eio" | "enospc" as kind:
                    number_ = getattr(errno, kind.upper())
                    raise OSError(number_, os.strerror(number_))


@contextmanager
def _during(step: str, due: Script, arguments: Sequence[Any]) -> Iterator[None]:
    kinds = {each["do"] for each in due}
    with pytest.MonkeyPatch.context() as patch:
        if "fail_rename" in kinds:
            patch.setattr(os, "rename", _fails)
            patch.setattr(os, "link", _fails)
        if "short_write" in kinds and step == "finish":
            # What was written is not all there: a disk that lied, or another program.
            aside = arguments[0]._path
            os.truncate(aside, aside.stat().st_size // 2)
        elif "short_write" in kinds:
            patch.setattr(Path, "write_bytes", _writes_half)
        yield


def _first_time(fault: Mapping[str, Any]) -> bool:
    if "once" not in fault:
        return True
    try:
        os.close(os.open(fault["once"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _fails(*_: Any, **__: Any) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _writes_half(path: Path, data: bytes) -> int:
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class Disk:
    """What would be left if the power failed: synced bytes, under names in synced folders.

    The strictest reading of what a file system promises: nothing that was not synced survives, be
    it bytes, a name, or that a name is gone.
    """

    def __init__(self, patch: pytest.MonkeyPatch, roots: Sequence[Path]) -> None:
        """Begin; what is there is safe, from before."""
        self._roots = roots
        self._bytes: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}
        self._kept: list[int] = []  # open files, so that no number of a file is used again
        self._sync = os.fsync
        for root in roots:
            for path in [root.parent, root, *root.rglob("*")]:
                if path.exists():
                    self._note(str(path))
        patch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        self._sync(descriptor)
        self._note(f"/proc/self/fd/{descriptor}")

    def _note(self, path: str) -> None:
        real = os.path.realpath(path)
        if os.path.isdir(path):
            self._names[real] = {entry.name: entry.inode() for entry in os.scandir(path)}
            return
        copy = os.open(path, os.O_RDONLY)
        self._kept.append(copy)
        held = os.fstat(copy)
        self._bytes[held.st_ino] = os.pread(copy, held.st_size, 0)

    def lose(self) -> None:
        """Leave under the roots what would be left."""
        for root in self._roots:
            folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
            for folder in folders:
                if folder.is_dir():
                    self._lose_in(folder)

    def _lose_in(self, folder: Path) -> None:
        safe = self._names.get(os.path.realpath(folder), {})
        for path in folder.iterdir():
            if path.name not in safe:
                _take_away(path)
        for name, number in safe.items():
            path, left = folder / name, self._bytes.get(number, b"")
            if path.is_dir() or (path.exists() and path.read_bytes() == left):
                continue  # and has the time that it had
            path.write_bytes(left)


def _take_away(path: Path) -> None:
    for inner in sorted(path.rglob("*"), reverse=True):
        inner.rmdir() if inner.is_dir() else inner.unlink()
    path.rmdir() if path.is_dir() else path.unlink()
