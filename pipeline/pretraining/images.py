"""Training images, whatever they come from; and those that are in memory already."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8

# Purposes of random numbers: what a crop looks like, whose colours are looked at, which images are
# held out, and dropout.
VIEW, COLOURS, HELD, DROPOUT = 7, 8, 9, 10


@dataclass(frozen=True)
class Batch:
    """Crops of the images of a batch that could be read."""

    pixels: UInt8[np.ndarray, "read side side 3"] | Float32[np.ndarray, "read side side 3"]
    """RGB, 0..255; a little beyond where colours were altered."""
    indices: Int64[np.ndarray, " read"]
    """Whose they are."""
    unreadable: Mapping[int, str] = field(default_factory=dict)
    """Why the others could not be read."""


@runtime_checkable
class Images(Protocol):
    """Images that a network is trained on: each has a class, and gives square crops."""

    labels: Int64[np.ndarray, " images"]
    side_px: int
    """Of the crops."""

    @property
    def owners(self) -> Int64[np.ndarray, " images"]:
        """Which photograph each is of, by a number: those of one are held out together."""
        ...

    def name(self, index: int) -> str:
        """Return what an image is called."""
        ...

    def varied(self, chosen: Int[np.ndarray, " batch"], epoch: int) -> Batch:
        """Return crops to train on; each depends on seed, epoch and image alone."""
        ...

    def plain(self, chosen: Int[np.ndarray, " batch"]) -> Batch:
        """Return crops to measure on, the same ones each time."""
        ...


class CropImages:
    """Crops in memory, which are taken as they are, or mirrored.

    Args:
        crops: RGB.
        labels: class index of each.
        flips: whether a crop to train on is mirrored with probability 1/2.
        seed: of the flips.
    """

    def __init__(
        self,
        crops: UInt8[np.ndarray, "images side side 3"],
        labels: Int64[np.ndarray, " images"],
        *,
        flips: bool = False,
        seed: int = 0,
    ) -> None:
        self.labels, self.side_px = labels, crops.shape[1]
        self._crops, self._flips, self._seed = crops, flips, seed

    @property
    def owners(self) -> Int64[np.ndarray, " images"]:
        """Of each crop itself."""
        return np.arange(len(self.labels))

    def name(self, index: int) -> str:
        """Return the number of a crop."""
        return f"crop {index}"

    def varied(self, chosen: Int[np.ndarray, " batch"], epoch: int) -> Batch:
        """Return the crops, half of them mirrored where that is wanted."""
        batch = self.plain(chosen)
        if self._flips:
            for crop, index in zip(batch.pixels, chosen, strict=True):
                if view_random(self._seed, epoch, int(index)).random() < 0.5:
                    crop[:] = crop[:, ::-1].copy()
        return batch

    def plain(self, chosen: Int[np.ndarray, " batch"]) -> Batch:
        """Return the crops as they are."""
        return Batch(self._crops[chosen], np.asarray(chosen, np.int64))


def view_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random numbers of one image in one epoch, on whatever thread or machine."""
    return seeded(seed, VIEW, epoch, index)


def seeded(seed: int, purpose: int, *more: int) -> np.random.Generator:
    """Return the random numbers of one purpose, independent of those of any other."""
    return np.random.default_rng([seed % 2**32, purpose, *more])
