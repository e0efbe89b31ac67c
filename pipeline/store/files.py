"""Files that are either whole or absent: written aside, synced, renamed, and the folder synced."""

import json
import math
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.plain_files import NoPlainFileError, read_plain

READ_BYTES = 1 << 22
MOST_JSON_BYTES = 1 << 32


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success its content becomes `path`.

    The name is unique to the attempt, so that two writers never share a half-written file, and
    whatever fails leaves nothing behind under `path`.
    """
    with written_together([path]) as (aside,):
        yield aside


@contextmanager
def written_together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield temporary names; on success the files get theirs in the order given.

    The folders are synced once for all: the last file is there only if the others are.
    """
    folders = {path.parent for path in paths}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    aside = [path.with_name(f"{path.name}.tmp.{uuid.uuid4().hex[:12]}") for path in paths]
    try:
        yield aside
        for each in aside:
            sync(each)
        for each, path in zip(aside, paths, strict=True):
            each.rename(path)
        for folder in folders:
            sync(folder)
    finally:
        for each in aside:
            each.unlink(missing_ok=True)


def roll_back(stack: ExitStack, error: BaseException | None) -> None:
    """End what a stack holds as after a failure, so that it goes away.

    For writers with a `commit`, which closes the stack: after that there is nothing to roll back.
    """
    failed = error or RuntimeError("left without a commit")
    stack.pop_all().__exit__(type(failed), failed, failed.__traceback__)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all; equal contents give equal bytes."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None where it is absent, empty or cut short.

    A record that cannot be read is a record that was never made: its maker runs again.
    """
    try:
        return json.loads(read_plain(path, MOST_JSON_BYTES))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError, NoPlainFileError):
        return None


def number(value: float | None) -> float:
    """Return a number as Python has it: JSON has null where there is nothing to divide by."""
    return math.nan if value is None else value


def sync(path: Path) -> None:
    """Ask the disk to hold the file or folder before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
