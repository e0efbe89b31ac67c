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

# What the system says to a process that touches memory which is not its own, and the like: not the
# signals by which others end one, for want of memory or in haste.
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
REFUSED = 2  # exit code of a reader that says why it cannot
_PROJECT = str(Path(__file__).parents[2])


class EndedError(InputError):
    """The process that read a file came to an end by itself, or had to be ended."""

    def __init__(self, why: str, sign: int = 0) -> None:
        super().__init__(why)
        self.sign = sign
        """The signal that it died by; 0: none."""


def read_apart(reader: str, *arguments: str, given: bytes = b"", timeout_s: float = 600.0) -> bytes:
    """Run `pipeline.apart.<reader>` in a process of its own; return what it writes.

    Args:
        reader: a module of this package, which has a `main`.
        arguments: for it.
        given: what it reads from its standard input.
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
            env={**os.environ, "PYTHONPATH": own_path()},
            input=given,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise EndedError(f"reading it took more than {timeout_s:g} s") from late
    if ended.returncode == REFUSED:
        raise InputError(ended.stderr.decode(errors="replace").strip())
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        what = (
            "it is damaged in a way that ends programs"
            if -ended.returncode in FAULTS
            else ("there may be too little memory")
        )
        raise EndedError(f"reading it ended the reader ({name}): {what}", -ended.returncode)
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise EndedError(f"its reader does not run here: {said}")
    return ended.stdout


def own_path() -> str:
    """Return where a process of ours finds this project, and the packages of this process."""
    return os.pathsep.join(filter(None, [_PROJECT, os.environ.get("PYTHONPATH")]))


def refuse(why: str) -> None:
    """Say in a reader why it cannot, and end it."""
    sys.stderr.write(why)
    sys.exit(REFUSED)
