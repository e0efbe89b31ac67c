"""Reading files of others in a process of its own, which may end in whatever way it likes.

Some libraries believe what a damaged file says of its own lengths, and end the process. Where that
was seen, or happened once before, the file is read in here: what is then lost is that process.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.errors import InputError

REFUSED = 2  # exit code of a reader that says why it cannot
_PROJECT = str(Path(__file__).parents[2])


class EndedError(InputError):
    """The process that read a file came to an end by itself, or had to be ended."""

    def __init__(self, why: str, output: bytes) -> None:
        super().__init__(f"{why}: it is damaged in a way that no program should read")
        self.why = why
        self.output = output
        """What it had written by then."""


def read_apart(reader: str, *arguments: str, timeout_s: float = 600.0) -> bytes:
    """Run `pipeline.apart.<reader>` in a process of its own; return what it writes.

    Args:
        reader: a module of this package, which has a `main`.
        arguments: for it.
        timeout_s: after which it is ended.

    Raises:
        InputError: it says why it cannot read.
        EndedError: it died, or took too long.
    """
    # -P: where a run was started may hold a numpy.py of others.
    command = [sys.executable, "-P", "-m", f"pipeline.apart.{reader}", *arguments]
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": _PROJECT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        why = f"reading it took more than {timeout_s:g} s"
        raise EndedError(why, late.stdout or b"") from None
    if ended.returncode == REFUSED:
        raise InputError(ended.stderr.decode(errors="replace").strip())
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise EndedError(f"reading it ended the reader ({name})", ended.stdout)
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise EndedError(f"reading it ended the reader ({said})", ended.stdout)
    return ended.stdout


def refuse(why: str) -> None:
    """Say in a reader why it cannot, and end it."""
    sys.stderr.write(why)
    sys.exit(REFUSED)
