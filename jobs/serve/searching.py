"""Finding windows: by SQL, and by what they look like."""

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from jobs import show
from jobs.asked import Asked
from pipeline import machine
from pipeline.search.nearest import nearest
from pipeline.search.regions import region_vectors
from pipeline.search.similar import similar
from pipeline.store import Store
from pipeline.store.blocks import query
from pipeline.store.bounds import Bounds
from pipeline.store.schema import BOX_COLUMNS, box_array

AT_ONCE = 2  # searches: each takes all CPUs
SEARCH_S = 60.0  # longest query: nobody looks at a page that long
ASIDE_BYTES = 4 << 30  # of a query, in the temporary folder
CELL = 120  # characters of a table's cell that are shown
_OF_A_WINDOW = {"image_id", *BOX_COLUMNS}


def memory_bytes() -> int:
    """Return what a search may take: half of all for searches, for trainings need some, too."""
    return machine.memory_bytes() // 2 // AT_ONCE


@dataclass(frozen=True)
class Hit:
    """A window that was found."""

    image_id: str
    box: list[float]
    score: float | None
    why: str = ""


@dataclass(frozen=True)
class Found:
    """A page of what was found: windows, or else rows of a table."""

    told: str
    hits: list[Hit] | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[list[str], ...] = ()
    more: bool = False
    """Whether there is another page."""


class Searching:
    """Asks the store."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._vectors = asked.vectors

    @property
    def _store(self) -> Store:
        return self._asked.store

    def sql(self, query: str, start: int, size: int, left: threading.Event) -> Found:
        """Return a page of a query's answer; once `left` is set nobody waits for it.

        Raises:
            InputError: the query is not one SELECT, it fails, or it takes more than a search may.
        """
        bare = query.strip().rstrip(";")
        # One more than a page, to know whether there is another. A line of its own: the query may
        # end in a comment.
        paged = f"SELECT * FROM (\n{bare}\n) LIMIT {size + 1} OFFSET {start}"
        known, found = self._asked.known_to(query)
        bounds = Bounds(SEARCH_S, memory_bytes(), ASIDE_BYTES, left)
        rows = self._store.sql(
            paged, classifiers=known, detections=found, vectors=self._vectors, bounds=bounds
        )
        more, rows = len(rows) > size, rows.slice(0, size)
        place = f"{start + 1:,}–{start + len(rows):,}" if len(rows) else "nothing"
        if not _are_windows(rows):
            shown = [[_cell(row[name]) for name in rows.column_names] for row in show.rows_of(rows)]
            return Found(f"rows {place}", None, tuple(rows.column_names), tuple(shown), more)
        scores = _scores(rows)
        boxes = box_array(rows).tolist()
        each = zip(rows["image_id"].to_pylist(), boxes, scores, strict=True)
        return Found(f"windows {place}", [Hit(*one, "sql") for one in each], more=more)

    def near(self, image_id: str, box: Float[np.ndarray, " 4"], count: int) -> Found:
        """Return the windows that are most like a box on an image.

        Raises:
            InputError: there is no such image, or the box has no vector.
        """
        begun_s = time.perf_counter()
        wanted = region_vectors(self._store, image_id, [box], self._asked.network)
        find = partial(nearest, self._vectors)
        (hits,) = similar(self._vectors, [query(wanted.vectors[0])], count, find)
        boxes, images = box_array(hits.windows).tolist(), hits.windows["image_id"].to_pylist()
        found = zip(images, boxes, hits.scores.tolist(), strict=True)
        taken_s = time.perf_counter() - begun_s
        told = f"{len(self._vectors):,} compared in {taken_s:.1f} s"
        return Found(told, [Hit(*each, "similar") for each in found])


def _are_windows(rows: pa.Table) -> bool:
    """Whether the rows can be shown as pictures."""
    if not set(rows.column_names) >= _OF_A_WINDOW or not pa.types.is_string(rows["image_id"].type):
        return False
    corners = [rows[name] for name in BOX_COLUMNS]
    kinds = [pa.types.is_floating(each.type) or pa.types.is_integer(each.type) for each in corners]
    return all(kinds) and not any(each.null_count for each in [*corners, rows["image_id"]])


def _scores(rows: pa.Table) -> list[float | None]:
    """Return the column `score`, or the last one of floats that a query has made."""
    known = {*_OF_A_WINDOW, "scale_px", "window_id", "width", "height"}
    made = [field.name for field in rows.schema if pa.types.is_floating(field.type)]
    named = [name for name in made if name == "score"] or [
        name for name in made if name not in known
    ]
    return rows[named[-1]].to_pylist() if named else [None] * len(rows)


def _cell(value: Any) -> str:
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= CELL else f"{text[:CELL]}…"
