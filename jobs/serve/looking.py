"""What a page shows of a store: images page by page, one image's windows and detections, pictures.

Nothing here grows with the store: of a million images one page is read, of a shard one image.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from jobs.asked import Asked
from jobs.serve.decoded import Decoded
from pipeline.errors import InputError
from pipeline.report import crops
from pipeline.search.regions import windows_of
from pipeline.store import Store
from pipeline.store.labels import LabelPages
from pipeline.store.schema import BOX_COLUMNS, box_array

MOST_SIDE_PX = 1600  # of a picture that is asked for
DETECTIONS_SHOWN = 30
MOST_PARTS = 4  # of an image's path that are looked for in a folder


@dataclass(frozen=True)
class Page:
    """Some of the images, in order."""

    rows: list[dict[str, Any]]
    start: int
    """Place of the first among all."""
    count: int
    """How many there are in all."""


class Looking:
    """A store to look at. Safe in threads."""

    def __init__(self, asked: Asked, shown_from: Sequence[Path] | None = None) -> None:
        """Look at a store.

        Args:
            asked: the store.
            shown_from: folders whose image files may be shown; None: wherever the store says.
        """
        self.asked = asked
        self.shown_from = None if shown_from is None else [each.resolve() for each in shown_from]
        self._pages = LabelPages(self.store.root, "images.parquet")
        self._decoded = Decoded()

    @property
    def store(self) -> Store:
        """The store."""
        return self.asked.store

    @property
    def drawn_above(self) -> float:
        """Score above which detections are drawn: as on the recipe's pictures."""
        recipe = self.asked.recipe
        return 0.0 if recipe is None else recipe.evaluation.picture_score

    def page(self, start: int, size: int, at: str | None = None) -> Page:
        """Return a page of images; `at`: the one that this id is on, or would be."""
        place = start if at is None else self._pages.place_of(at) // size * size
        rows = self._pages.rows(max(0, place), size)
        return Page(rows.to_pylist(), max(0, place), len(self._pages))

    def image(self, image_id: str) -> dict[str, Any]:
        """Return what is known of one image.

        Raises:
            InputError: the store has no such image.
        """
        row = self.store.image(image_id)
        if row is None:
            raise InputError(f"{self.asked.name} has no image {image_id}")
        return row

    def windows(self, image_id: str) -> list[dict[str, Any]]:
        """Return the windows of one image."""
        shard = self.store.shard_of(image_id)
        if shard is None:
            return []
        _, rows = windows_of(self.store, shard, image_id)
        return _listed(rows.select(["window_id", "source", *BOX_COLUMNS]))

    def objects(self, image_id: str) -> list[dict[str, Any]]:
        """Return the labelled objects of one image."""
        rows = self.store.objects_named([image_id])
        return _listed(rows.select(["class", "difficult", *BOX_COLUMNS]))

    def detections(self, image_id: str) -> list[dict[str, Any]]:
        """Return the best detections of the run in one image, if it has any."""
        folder, shard = self.asked.run_detections(), self.store.shard_of(image_id)
        if folder is None or shard is None:
            return []
        file = folder / f"{self.store.shards[shard].shard_id}.parquet"
        if not file.is_file():
            return []
        rows = pq.read_table(file, filters=[("image_id", "=", image_id)])
        best = rows.sort_by([("score", "descending")]).slice(0, DETECTIONS_SHOWN)
        return _listed(best.select(["class", "score", *BOX_COLUMNS]))

    def picture(
        self, image: str, box: Float[np.ndarray, " 4"] | None, side_px: int, context: float
    ) -> bytes:
        """Return an image, or a window with what surrounds it, as a JPEG."""
        pixels = self._decoded.pixels(self._file_to_show(self.image(image)))
        side_px = min(max(16, side_px), MOST_SIDE_PX)
        return crops.jpeg(crops.crop(pixels, box, side_px, context))

    def _file_to_show(self, row: Mapping[str, Any]) -> Path:
        """Return the file of an image, which others will see.

        Raises:
            InputError: it is not there, or whoever made the store has named one that is not theirs
                to show.
        """
        file = row["file"]
        if self.shown_from is None:
            return Path(file)
        if (named := self._real(Path(file))) is not None:
            return named
        # A store that was moved says where its images were: then by as much of that as fits. A file
        # of another size is another image: two folders often have equal names.
        for count in range(MOST_PARTS, 0, -1):
            end = Path(*Path(file).parts[-count:])
            for folder in self.shown_from:
                found = self._real(folder / end)
                if found is not None and found.stat().st_size == row["bytes"]:
                    return found
        raise InputError(f"{file} is not shown: no folder that --images names has it")

    def _real(self, place: Path) -> Path | None:
        """Return what lies at a place, if that is a file that may be shown.

        Nothing outside of the folders is even asked for, lest answers tell what is there; and what
        is looked at is what is opened: a link may lead elsewhere by then.
        """
        try:
            real = Path(os.path.realpath(place))
        except (OSError, ValueError):
            return None
        allowed = any(real.is_relative_to(each) for each in self.shown_from or ())
        return real if allowed and os.path.isfile(real) else None


def _listed(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows with their box as one list."""
    boxes = box_array(rows).tolist()
    others = rows.drop_columns(list(BOX_COLUMNS)).to_pylist()
    return [{**other, "box": box} for other, box in zip(others, boxes, strict=True)]


def box_text(box: Iterable[float]) -> str:
    """Return a box as addresses have it: rounded to float32, as marks are, and no digit of it lost.

    >>> box_text([0.0, 12.5, 100.25, 1 / 3])
    '0,12.5,100.25,0.333333343'
    """
    with np.errstate(over="ignore"):  # a query in SQL may make any box
        return ",".join(f"{corner:.9g}" for corner in np.asarray(list(box), np.float32))
