"""Whose job folder it is: a lock that goes with its process, however that ends."""

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.runner import POLL_S, Stopped

LOCK = "lock"


@contextmanager
def sole_use(
    folder: Path, stop: threading.Event, waits: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a job's folder for as long as the block runs.

    Args:
        folder: of the job.
        stop: set by who wants to wait no longer.
        waits: called once, where another process is at work on it.

    Raises:
        Stopped: while it waited for its turn.
    """
    with (folder / LOCK).open("w") as file:
        tries = 0
        while not _taken(file.fileno(), fcntl.LOCK_EX):
            tries += 1
            if tries == 2:  # the first time it may be `spp status`, which only looked
                waits()
            if stop.wait(POLL_S):
                raise Stopped
        yield


def is_held(folder: Path) -> bool:
    """Whether a process is at work on the folder. Asking shares it for a moment."""
    try:
        with (folder / LOCK).open() as file:
            return not _taken(file.fileno(), fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError):
        return False


def was_held(folder: Path) -> bool:
    """Whether a process ever was at work on the folder."""
    return (folder / LOCK).exists()


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
