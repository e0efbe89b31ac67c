"""What is looked for: a stored window, any box on an image, a whole image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from pipeline.boxes import iou
from pipeline.errors import InputError
from pipeline.search.regions import (
    WAYS_OUT,
    Loads,
    NeedsNetworkError,
    region_vectors,
    windows_of,
)
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.store.schema import box_array

SAME_OBJECT = 0.5  # least IoU of a stored window that stands for a box


@dataclass(frozen=True)
class Wanted:
    """A region to look for."""

    vector: Float[np.ndarray, " dim"]
    image: str
    """Id of an image of the store, or a file."""
    box: tuple[float, ...]
    """Of the vector, in pixels of the image; empty: all of it."""
    instead_of: tuple[float, ...] = ()
    """The box that was asked for, where a stored window stands for it."""
    iou: float = 1.0
    """Of the two."""


def window(store: Store, vectors: Vectors, image_id: str, window_id: int) -> Wanted:
    """Return a stored window.

    Raises:
        InputError: there is no such image, or it has no such window.
    """
    first, windows = _stored(store, image_id)
    inside = np.flatnonzero(windows["window_id"].to_numpy() == window_id)
    if not len(inside):
        held = windows["window_id"].to_numpy()
        known = f"{held.min()} to {held.max()}" if len(held) else "none"
        raise InputError(f"image {image_id} has no window {window_id}: it has {known}")
    row = int(inside[0])
    (vector,) = vectors.take(np.array([first + row]))
    return Wanted(vector, image_id, tuple(box_array(windows)[row].tolist()))


def region(
    store: Store,
    vectors: Vectors,
    image: str | Path,
    box: ArrayLike | None = None,
    network: Loads = lambda: None,
) -> Wanted:
    """Return a box of an image, or all of it.

    Args:
        store: that will be searched.
        vectors: of the store.
        image: the id of one of its images, or a file.
        box: in pixels of the image; None: all of it.
        network: gives that which made the store (see `region_vectors`). Where it is not known and
            the store has no maps, the stored window that overlaps the box most stands for it.

    Raises:
        InputError: as of `region_vectors`; or no stored window overlaps the box by half.
    """
    boxes = None if box is None else np.asarray(box, np.float64)[None]
    try:
        (vector,) = region_vectors(store, image, boxes, network).vectors
    except NeedsNetworkError:
        row = store.image(str(image))
        if row is None or store.kind != "windows":
            raise
        whole = [0, 0, row["width"], row["height"]]
        return _instead(store, vectors, str(image), whole if box is None else box)
    asked = () if box is None else tuple(float(side) for side in np.asarray(box))
    return Wanted(vector, str(image), asked)


def _instead(store: Store, vectors: Vectors, image_id: str, box: ArrayLike) -> Wanted:
    """Return the stored window that overlaps a box most."""
    first, windows = _stored(store, image_id)
    asked = tuple(float(side) for side in np.asarray(box))
    overlaps = iou([asked], box_array(windows))[0]
    row = int(np.argmax(overlaps)) if len(overlaps) else 0
    best = float(overlaps[row]) if len(overlaps) else 0.0
    if best < SAME_OBJECT:
        raise InputError(
            f"no stored window of image {image_id} overlaps the box {list(asked)} by "
            f"{SAME_OBJECT}: the best has an IoU of {best:.2f}; {WAYS_OUT}"
        )
    (vector,) = vectors.take(np.array([first + row]))
    stored = tuple(box_array(windows)[row].tolist())
    return Wanted(vector, image_id, stored, () if best == 1 else asked, best)


def _stored(store: Store, image_id: str) -> tuple[int, Any]:
    """Return the windows of an image, and the number of the first one's row."""
    shard = store.shard_of(image_id)
    if shard is None:
        raise InputError(f"{store.root} has no windows of an image {image_id}")
    return windows_of(store, shard, image_id)
