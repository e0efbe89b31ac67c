"""From a window in pixels to the feature-map cells it covers, and the scale to take them at."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, Int64
from numpy.typing import ArrayLike

from pipeline.boxes import area, as_boxes

ScaleRule = Literal["area", "released"]

REFERENCE_SIDE_PX = 224  # the paper's §4.1: a window is best seen near the pre-training size
RELEASED_SIDE_PX = 208  # the released code's constant in its own rule


@runtime_checkable
class HasGeometry(Protocol):
    """What projecting needs to know of a network (`pipeline.networks.Geometry`)."""

    @property
    def stride(self) -> float:
        """Pixels between neighbouring cells."""
        ...

    @property
    def centre(self) -> float:
        """0-based pixel at the centre of the first cell's receptive field."""
        ...

    @property
    def shrink(self) -> float:
        """Pixels by which a window is shrunk on each side before it is projected."""
        ...


def project(
    boxes: ArrayLike, geometry: HasGeometry, map_size: Sequence[int]
) -> Int32[np.ndarray, "windows 4"]:
    """Return the cells `(x0, y0, x1, y1)`, half-open, that each window covers (SPEC §3).

    Args:
        boxes: `[windows 4]` in pixels of the *resized* image.
        geometry: of the network that made the feature map.
        map_size: `(width, height)` of the feature map in cells.
    """
    pixels = as_boxes(boxes)
    first = _nearest(pixels[:, :2], geometry, up=False)
    last = _nearest(pixels[:, 2:] - 1, geometry, up=True)
    middle = np.floor((first + last) / 2)
    crossed = first > last
    limit = np.asarray(map_size, dtype=np.float64) - 1
    first = np.clip(np.where(crossed, middle, first), 0, limit)
    last = np.clip(np.where(crossed, middle, last), 0, limit)
    return np.hstack([first, last + 1]).astype(np.int32)


def window_cells(
    boxes: ArrayLike,
    factors: Sequence[float],
    geometry: HasGeometry,
    map_size: Sequence[int],
) -> Int32[np.ndarray, "windows 4"]:
    """Return the cells of windows given in pixels of the *original* image (see `project`).

    Everybody who pools comes through here: on the edge of a cell, a window scaled in another
    precision would fall on other cells.

    Args:
        boxes: `[windows 4]`.
        factors: new pixels per old one, horizontally and vertically.
        geometry: of the network that made the feature map.
        map_size: `(width, height)` of the feature map in cells.
    """
    scaled = as_boxes(boxes) * np.tile(factors, 2)
    return project(scaled, geometry, map_size)


def distinct(
    cells: Int[np.ndarray, "windows 4"],
) -> tuple[Int32[np.ndarray, "distinct 4"], Int64[np.ndarray, " windows"]]:
    """Return the different cells among those of windows, and the place of each window's.

    Windows on the same cells of one map have one vector: pool the distinct ones, and
    `vectors[places]` are those of all windows. They come in the order in which they first appear,
    so that nothing moves where no two are equal.

    >>> found, places = distinct(np.array([[2, 0, 3, 1], [0, 0, 5, 5], [2, 0, 3, 1]]))
    >>> found.tolist(), places.tolist()
    ([[2, 0, 3, 1], [0, 0, 5, 5]], [0, 1, 0])
    """
    if len(cells) and not (cells.min() >= 0 and cells.max() < 1 << 16):
        _, first, places = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    else:
        # Four 16-bit numbers in one of 64: numpy sorts rows of four five times as slowly.
        packed = np.ascontiguousarray(cells, np.uint16).reshape(-1, 4).view(np.uint64)[:, 0]
        _, first, places = np.unique(packed, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.asarray(cells, np.int32).reshape(-1, 4)[first[order]], rank[places.reshape(-1)]


def _nearest(pixels: np.ndarray, geometry: HasGeometry, *, up: bool) -> np.ndarray:
    """First cells (rounded half up) or last cells (rounded half down) of shrunken edges."""
    offset = pixels - geometry.centre
    if up:
        return np.ceil((offset - geometry.shrink) / geometry.stride - 0.5)
    return np.floor((offset + geometry.shrink) / geometry.stride + 0.5)


def choose_scale(
    boxes: ArrayLike,
    image_size: Sequence[int | float],
    scales: Sequence[int],
    rule: ScaleRule = "area",
    reference_side_px: float | int = REFERENCE_SIDE_PX,
) -> Int[np.ndarray, " windows"]:
    """Return, per window, the index of the scale it is pooled at (paper §4.1, SPEC §3).

    Args:
        boxes: `[windows 4]` in pixels of the original image.
        image_size: `(width, height)` of the original image.
        scales: shorter sides, in pixels; on a tie the smaller scale is taken.
        rule: `"area"`: the scaled window's area is nearest to `reference_side_px` squared;
            `"released"`: the scale is nearest to `round(208 * min_side / sqrt(area))`.
        reference_side_px: side of the images that the network was trained on.

    >>> choose_scale([[0, 0, 120, 160]], (500, 375), (480, 576, 688, 864, 1200)).tolist()
    [1]
    """
    if not scales:
        raise ValueError("there are no scales to choose from; give at least one")
    shorter = float(min(image_size))
    sides, areas = np.asarray(scales, dtype=np.float64), area(boxes)[:, None]
    if rule == "area":
        # Not divided by shorter², so that ties of whole pixels are exact.
        distance = np.abs(areas * sides**2 - (reference_side_px * shorter) ** 2)
    elif rule == "released":
        with np.errstate(divide="ignore"):
            ideal = np.floor(RELEASED_SIDE_PX * shorter / np.sqrt(areas) + 0.5)
        distance = np.abs(sides - ideal)
    else:
        raise ValueError(f'no scale rule "{rule}"; there are "area" and "released"')
    ascending = np.argsort(sides, kind="stable")
    return ascending[np.argmin(distance[:, ascending], axis=1)]
