"""Images whose rows an earlier store has: they are taken over from there, and not made again.

Who adds a hundred images to a hundred thousand waits for a hundred. What is taken over has the bits
that would be made: the network and the features are the same, and an image's rows do not depend on
which others are in its shard (`Features.made_alone`).

What an earlier store holds is not trusted. The files of its shards, and the record that says where
an image's rows are, are held against their digests before a row is read, an image's file against
its size and time of then, and its windows one by one against those of now. Whatever is not as it
was is made, as if there were no earlier store.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from pipeline import index
from pipeline.errors import InputError
from pipeline.store.labels import read_labels
from pipeline.store.maps import StoredMap
from pipeline.store.place import Place, place
from pipeline.store.reader import Store
from pipeline.store.records import record_name
from pipeline.store.rows import Vectors
from pipeline.store.schema import BOX_COLUMNS, image_slices

OPEN_SHARDS = 2  # of an earlier store: two are made at a time, of neighbouring images
KNOWN_SHARDS = 16  # whose images are kept in mind: a shard made now may meet several small ones
_COMPARED = ("window_id", *BOX_COLUMNS, "source")


@dataclass(frozen=True)
class Earlier:
    """A finished store that was made by the same network, with the same features."""

    root: Place
    images: Path
    """Table of `pipeline.index.IMAGES`: its images as they were then."""


@dataclass(frozen=True)
class HeldRows:
    """Where an earlier store has the rows of an image."""

    store: "EarlierStore"
    first: int
    """Number of the first row, through all its shards."""
    scales: Int[np.ndarray, " windows"]
    """The column `scale_px`."""

    def vectors(self) -> Float[np.ndarray, "windows dim"]:
        """Return the vectors as they are stored, in memory of their own."""
        return self.store.vectors.take(self.first + np.arange(len(self.scales)))

    def maps(self) -> list[StoredMap]:
        """Return the image's feature maps, of a store of maps."""
        return self.store.vectors.maps(self.first)


def held_rows(
    stores: Sequence["EarlierStore"], images: pa.Table, windows: Mapping[str, pa.Table]
) -> dict[str, HeldRows]:
    """Return by id the images whose rows one of the stores has as they would be made now.

    Args:
        stores: the first that has an image counts.
        images: of one shard, of `pipeline.index.IMAGES`.
        windows: of each image, of `pipeline.windows.table.WINDOWS`.
    """
    found: dict[str, HeldRows] = {}
    for store in stores:
        left = images.filter(~np.isin(images["image_id"].to_pylist(), list(found)))
        if len(left):
            found |= store.held(left, windows)
    return found


class EarlierStore:
    """An earlier store that is opened for a shard's images. Safe in threads."""

    def __init__(self, earlier: Earlier) -> None:
        self._listed, self._store = earlier.images, Store(earlier.root)
        self._lock = threading.RLock()
        self._spans: OrderedDict[int, dict[str, tuple[int, int]]] = OrderedDict()
        self._vectors: Vectors | None = None

    @property
    def vectors(self) -> Vectors:
        """All of its vectors."""
        with self._lock:
            if self._vectors is None:
                self._vectors = Vectors(self._store, kept_open=OPEN_SHARDS, copied_bytes=0)
            return self._vectors

    def held(self, images: pa.Table, windows: Mapping[str, pa.Table]) -> dict[str, HeldRows]:
        """Return which of the images it has as they are now, with the same windows."""
        try:
            return self._held(images, windows)
        except (InputError, OSError, pa.ArrowException):
            return {}  # gone, damaged or out of reach: they are made

    def _held(self, images: pa.Table, windows: Mapping[str, pa.Table]) -> dict[str, HeldRows]:
        ids = images["image_id"].to_pylist()
        listed = read_labels(place(self._listed.parent), self._listed.name, ids)
        kept = images.filter(index.unchanged(images, listed) >= 0)["image_id"].to_pylist()
        spans = {image_id: span for image_id in kept if (span := self._span(image_id))}
        if not spans:
            return {}
        rows = np.concatenate([first + np.arange(count) for first, count in spans.values()])
        table = self.vectors.scalars(rows, ["image_id", *_COMPARED, "scale_px"])
        scales, found = table["scale_px"].to_numpy(), {}
        for image_id, part in image_slices(table):
            own = table.slice(part.start, part.stop - part.start)
            if _same(own, windows.get(image_id)):
                first, _ = spans[image_id]
                found[image_id] = HeldRows(self, first, scales[part])
        return found

    def _span(self, image_id: str) -> tuple[int, int] | None:
        """Return number of the first row of an image, and how many it has."""
        shards = self._store.shards
        # Shards divide the sorted images into ranges.
        number = bisect_right(shards, image_id, key=lambda entry: entry.first or "") - 1
        if number < 0:
            return None
        with self._lock:  # of two threads that ask for a shard, one reads it
            held = self._spans.pop(number, None)
            self._spans[number] = spans = self._read(number) if held is None else held
            while len(self._spans) > KNOWN_SHARDS:
                self._spans.popitem(last=False)
        return spans.get(image_id)

    def _read(self, number: int) -> dict[str, tuple[int, int]]:
        """Return first row and rows of each image of a shard; of one that is damaged, none."""
        entry, root = self._store.shards[number], self._store.root
        for folder, file in entry.files.items():
            if root.digest(entry.name(folder)) != file.sha256:
                return {}
        if root.digest(record_name(entry.shard_id)) != entry.record_sha256:
            return {}  # it says where in the shard an image's rows are
        record = self._store.record(entry.shard_id)
        ids = sorted(record.images)
        counts = [record.images[image_id] for image_id in ids]
        firsts = int(self.vectors.first[number]) + np.cumsum([0, *counts])
        spans = zip(firsts.tolist(), counts, strict=False)
        return {image_id: span for image_id, span in zip(ids, spans, strict=True) if span[1]}


def _same(rows: pa.Table, windows: pa.Table | None) -> bool:
    """Return whether an image's rows are of these windows, in this order."""
    return windows is not None and all(
        _plain(rows[name]).equals(_plain(windows[name])) for name in _COMPARED
    )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return words as words: which number stands for one is a table's own affair."""
    words = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if words else column
