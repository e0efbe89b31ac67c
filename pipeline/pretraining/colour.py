"""Colour altering: a crop gets a little brighter or dimmer along the main directions of RGB.

Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks"
(2012), §4.1; the paper's §3.1 follows it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from pipeline.errors import InputError


@dataclass(frozen=True)
class Colour:
    """Principal components of the RGB values of many pixels, these taken as 0..1.

    The unit matters, for a shift goes with the variance and not with its root: in 0..255 the same
    rule would shift by 255 times as much.
    """

    axes: tuple[tuple[float, ...], ...]
    """Unit vectors in RGB, the one of the largest variance first."""
    variances: tuple[float, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> "Colour | None":
        """Return the colours of a record in JSON; none of none."""
        if record is None:
            return None
        return cls(tuple(map(tuple, record["axes"])), tuple(record["variances"]))

    def shift(self, strengths: Float[np.ndarray, " 3"]) -> Float32[np.ndarray, " 3"]:
        """Return what is added to each pixel of a crop, in 0..255: the sum of αᵢ λᵢ pᵢ."""
        along = strengths * np.asarray(self.variances)
        return np.asarray(255 * along @ np.asarray(self.axes), np.float32)


def principal_colours(images: Iterable[np.ndarray]) -> Colour:
    """Return the components of all pixels of some images; each pixel counts as much.

    Args:
        images: arrays `[rows cols 3]`, RGB, 0..255.

    Raises:
        InputError: there is no image.
    """
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for image in images:
        pixels = image.reshape(-1, 3).astype(np.float64) / 255
        count += len(pixels)
        total += pixels.sum(axis=0)
        products += pixels.T @ pixels
    if not count:
        raise InputError(
            "no training image could be read to take colours from: see that the files are there, "
            "or set pretrain.colour = 0"
        )
    mean = total / count
    variances, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
    axes = axes.T[::-1]  # ascending, as columns
    # An axis may come out either way round: its largest number is made positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    return Colour(tuple(map(tuple, axes.tolist())), tuple(variances[::-1].clip(0).tolist()))
