"""What a done job left behind, and whether it is still there.

Looks at names and sizes only; `spp verify` reads every byte of a store.
"""

from pathlib import Path
from typing import Any

from jobs.context import DONE, ERROR, STORE, TASKS
from jobs.events import EVENTS
from jobs.hold import LOCK

# What is no output: the DAG's own files, what nothing reads once the job is done, and the store,
# which has a manifest of its own.
_ASIDE = {DONE, ERROR, LOCK, EVENTS, TASKS, STORE}


def files_of(folder: Path) -> dict[str, int]:
    """Return the bytes of each file that a job made, by its path in the folder."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for top in sorted(folder.iterdir())
        if top.name not in _ASIDE
        for path in ([top] if top.is_file() else sorted(top.rglob("*")))
        if path.is_file()
    }


def damage(folder: Path, record: dict[str, Any]) -> str | None:
    """Return what became of a file that the job's record names; None where all are there."""
    for name, size in record.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            return f"{file} is missing"
        if file.stat().st_size != size:
            return f"{file} has {file.stat().st_size:,} bytes, and was made with {size:,}"
    return None
