"""Earlier jobs of the same settings, and which images were in their sets as they are now.

A folder is named by the whole of its image set: once images are added, or divided otherwise, no run
meets it again. But what it has of an image that has stayed as it was would be made again bit by
bit; so it is looked for, by the job's settings. An image is known by its file: under another root
all are new.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from jobs.context import DONE
from pipeline import index
from pipeline.store.files import read_json

MOST = 4  # jobs that are taken from
COLUMNS = ["image_id", *index.STATE]


class Met(NamedTuple):
    """An earlier job that has some of the images."""

    folder: Path
    record: dict[str, Any]
    rows: Int64[np.ndarray, " some"]
    """Which of the images: not those that another one has."""
    places: Int64[np.ndarray, " some"]
    """Where they stood among its own, sorted by id."""
    images: int
    """How many those were."""


def met(
    folder: Path,
    settings: str,
    images: Callable[[], pa.Table],
    table_of: Callable[[Path, dict[str, Any]], Path | None],
) -> Iterator[Met]:
    """Yield earlier jobs, the newest first, until all images are met or there is no further one.

    Args:
        folder: of the job that is to be done.
        settings: as its `Step` has them.
        images: gives those of its set, of `pipeline.index.IMAGES`; asked where there is an earlier
            job, for they may be millions.
        table_of: gives such a table of a job's own set, by its folder and record; None: what it
            made is no use.
    """
    jobs = [
        (other, record, table)
        for other, record in _of_same_settings(folder, settings)
        if (table := table_of(other, record)) is not None
    ]
    if not jobs:
        return
    asked, count = images(), 0
    left = np.arange(len(asked))
    for other, record, table in jobs:
        try:
            listed = pq.read_table(table, columns=COLUMNS).sort_by("image_id")
        except (OSError, pa.ArrowException):
            continue  # damaged, or removed meanwhile: its images are made again
        places = index.unchanged(asked.take(pa.array(left)), listed)
        has = places >= 0
        if has.any():
            yield Met(other, record, left[has], places[has], len(listed))
            left, count = left[~has], count + 1
        if not len(left) or count == MOST:
            return


def _of_same_settings(folder: Path, settings: str) -> list[tuple[Path, dict[str, Any]]]:
    """Return folders and records of other done jobs with these settings, the newest first."""
    found = []
    for done in folder.parent.glob(f"*/{DONE}"):
        record = None if done.parent == folder else read_json(done)
        if record and settings and record.get("settings") == settings:
            with suppress(FileNotFoundError):  # taken back or removed by somebody else meanwhile
                found.append((done.stat().st_mtime_ns, done.parent, record))
    return [(other, record) for _, other, record in sorted(found, key=lambda each: -each[0])]
