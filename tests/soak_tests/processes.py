"""The processes of a cluster on this machine, by what Linux says of them."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def below(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that these have."""
    parents: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parents.setdefault(int(fields[1]), []).append(int(folder.name))
    pending = [pid]
    while pending:
        own = parents.get(pending.pop(), [])
        yield from own
        pending += own


def workers(pid: int) -> list[int]:
    """Return Ray's workers among them, whatever they are at; not its agents, who are the node."""
    named = {each: _name(each) for each in below(pid)}
    return [each for each, name in named.items() if re.match(r"ray::(?!\w*Agent)", name)]


def resident_bytes(pids: Iterator[int] | list[int]) -> int:
    """Return the memory that processes hold, together."""
    total = 0
    for pid in pids:
        try:
            pages = int((PROC / str(pid) / "statm").read_text().split()[1])
        except OSError:
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def kill(pid: int) -> bool:
    """End a process at once; return whether there was one."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
