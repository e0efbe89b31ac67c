"""Whose job folder it is: a lock that goes with its process, however that ends."""

import errno
import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.runner import POLL_S, Stopped

LOCK = "lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems answer that know of no locks, as Lustre does unless it is told to."""
WAITING = "waiting for another run, at work on the same"
UNLOCKED = (
    "this file system has no locks (mount it with flock): two runs of the same job at once may "
    "stop each other, and `spp status` calls a running job interrupted"
)


@contextmanager
def sole_use(
    folder: Path, stop: threading.Event, note: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Hold a job's folder for as long as the block runs.

    Args:
        folder: of the job.
        stop: set by who wants to wait no longer.
        note: told once where another process is at work on it, or where nobody can know.

    Raises:
        Stopped: while it waited for its turn.
    """
    with (folder / LOCK).open("w") as file:
        tries = 0
        while (taken := _taken(file.fileno(), fcntl.LOCK_EX)) is False:
            tries += 1
            if tries == 2:  # the first time it may be `spp status`, which only looked
                note(WAITING)
            if stop.wait(POLL_S):
                raise Stopped
        if taken is None:
            note(UNLOCKED)
        yield


def is_held(folder: Path) -> bool:
    """Whether a process is at work on the folder. Asking shares it for a moment."""
    try:
        with (folder / LOCK).open() as file:
            return _taken(file.fileno(), fcntl.LOCK_SH) is False
    except (FileNotFoundError, NotADirectoryError):
        return False


def was_held(folder: Path) -> bool:
    """Whether a process ever was at work on the folder."""
    return (folder / LOCK).exists()


def _taken(descriptor: int, kind: int) -> bool | None:
    """Try the lock; return whether it was had, or None where there are no locks to be had."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True
