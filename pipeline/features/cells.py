"""The cells of feature maps that an image's windows cover, each different one once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32

from pipeline import spp
from pipeline.features.resizing import EVERY_SCALE, Resized
from pipeline.networks import Network


@dataclass(frozen=True)
class Distinct:
    """The different cells that an image's windows cover.

    Windows on the same cells of the same scale have the same vector, which is computed once.
    """

    cells: tuple[Int32[np.ndarray, "_ 4"], ...]
    """Of each scale, in the order of the resized images."""
    rows: Int[np.ndarray, " windows"]
    """Of each window the vector that is its: those of all scales stand one after the other."""
    every_scale: bool = False
    """Whether cells are as many at each scale, and a vector has the largest numbers of all."""

    @property
    def count(self) -> int:
        """How many vectors there are to compute."""
        return int(self.rows.max(initial=-1)) + 1

    def part(self, first: int, last: int) -> tuple[Int32[np.ndarray, "_ 4"], ...]:
        """Return the cells of some of the vectors."""
        if self.every_scale:
            return tuple(each[first:last] for each in self.cells)
        starts = np.cumsum([0, *map(len, self.cells)]).tolist()
        return tuple(
            each[max(0, first - start) : max(0, last - start)]
            for each, start in zip(self.cells, starts, strict=False)
        )


def distinct_cells(
    resized: Sequence[Resized],
    places: Int[np.ndarray, " windows"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
) -> Distinct:
    """Project each window to the cells of its scale. Needs no feature map, only its size."""
    rows = np.zeros(len(windows), np.int64)
    if (places == EVERY_SCALE).any():
        cells = np.hstack([_cells(image, windows, network) for image in resized])
        different, rows = np.unique(cells, axis=0, return_inverse=True)
        return Distinct(tuple(np.split(different, len(resized), axis=1)), rows.reshape(-1), True)
    found: list[np.ndarray] = []
    for place, image in enumerate(resized):
        chosen = np.flatnonzero(places == place)
        different, which = spp.distinct(_cells(image, windows[chosen], network))
        rows[chosen] = sum(map(len, found)) + which
        found.append(different)
    return Distinct(tuple(found), rows)


def whole_maps(
    resized: Sequence[Resized], windows: Float[np.ndarray, "windows 4"], network: Network
) -> Distinct:
    """Give each window the entire map of its image, at the one scale that there is.

    Not by projection, which may leave cells at the edge to nobody: what they see lies more outside
    of the image than in it.
    """
    cells = np.zeros((min(len(windows), 1), 4), np.int32)
    for image in resized:
        height, width = image.pixels.shape[1:]
        cells[:, 2:] = network.map_size(width, height)
    return Distinct((cells,), np.zeros(len(windows), np.int64))


def _cells(
    image: Resized, windows: Float[np.ndarray, "windows 4"], network: Network
) -> Int32[np.ndarray, "windows 4"]:
    height, width = image.pixels.shape[1:]
    map_size = network.map_size(width, height)
    return spp.window_cells(windows, image.factors, network.geometry, map_size)
