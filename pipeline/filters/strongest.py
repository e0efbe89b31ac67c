"""The images that each filter responds to most strongly, and how it responds as a rule.

A filter is a channel of the feature maps; its response in an image is the largest number of its map
there. Filters are numbered from 0, as channels are in the vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Response:
    """A filter's strongest response in one image."""

    image_id: str
    value: float
    cell: tuple[int, int]
    """Column and row of the map; of equal ones the first, row by row."""


class Strongest:
    """Takes map after map, and keeps of each filter the strongest responses and its statistics.

    Memory: so many responses of each filter, whatever the number of images.
    """

    def __init__(self, count: int) -> None:
        """Begin without any image.

        Args:
            count: responses that are kept of each filter.
        """
        self.images = 0
        self._count = count
        self._ids: list[str] = []
        # By rank and filter: the response, the image's number, and its cell's column and row.
        self._values = np.zeros((0, 0))
        self._places = np.zeros((0, 0, 3), np.int64)
        self._squares = np.zeros(0)
        self.mean: Float[np.ndarray, " channels"] = np.zeros(0)
        """Of each filter's responses, one an image."""
        self.responding: Int[np.ndarray, " channels"] = np.zeros(0, np.int64)
        """In how many images each filter responds at all: above zero."""

    def add(self, image_id: str, feature_map: Float[np.ndarray, "channels rows cols"]) -> None:
        """Take one image's map. Of equal responses that of the image which came first is ahead."""
        values, cells = responses(feature_map)
        if not self.images:
            channels = len(values)
            self._values, self._places = np.zeros((0, channels)), np.zeros((0, channels, 3), int)
            self.mean, self._squares = np.zeros(channels), np.zeros(channels)
            self.responding = np.zeros(channels, np.int64)
        # Welford's way: a filter that always responds alike has a deviation of exactly zero.
        self.images += 1
        off = values - self.mean
        self.mean = self.mean + off / self.images
        self._squares += off * (values - self.mean)
        self.responding += values > 0
        self._ids.append(image_id)
        own = np.column_stack([np.full(len(values), len(self._ids) - 1), cells])
        known = np.concatenate([self._values, values[None]])
        places = np.concatenate([self._places, own[None]])
        order = np.argsort(-known, axis=0, kind="stable")[: self._count]
        self._values = np.take_along_axis(known, order, axis=0)
        self._places = np.take_along_axis(places, order[..., None], axis=0)

    @property
    def deviation(self) -> Float[np.ndarray, " channels"]:
        """Standard deviation of each filter's responses, over the images that were added."""
        return np.sqrt(self._squares / max(self.images, 1))

    def of(self, number: int) -> list[Response]:
        """Return a filter's strongest responses, best first."""
        return [
            Response(self._ids[image], float(value), (int(column), int(row)))
            for value, (image, column, row) in zip(
                self._values[:, number], self._places[:, number], strict=True
            )
        ]

    def standings(self, values: Float[np.ndarray, " channels"]) -> Float[np.ndarray, " channels"]:
        """Return how remarkable an image's responses are: deviations above each filter's mean.

        Zero for a filter that responds to all images alike.
        """
        deviation = self.deviation
        return np.divide(
            values - self.mean, deviation, out=np.zeros(len(values)), where=deviation > 0
        )

    def most_often(self, numbers: Sequence[int] = ()) -> str:
        """Return the image that is most often among the strongest kept; of equal ones the first.

        Args:
            numbers: filters that count; none: all.
        """
        chosen = list(numbers) or slice(None)
        images, values = self._places[:, chosen, 0], self._values[:, chosen]
        counts = np.bincount(images[values > 0], minlength=len(self._ids))
        return self._ids[int(np.argmax(counts))]


def responses(
    feature_map: Float[np.ndarray, "channels rows cols"],
) -> tuple[Float[np.ndarray, " channels"], Int[np.ndarray, "channels 2"]]:
    """Return each filter's response, and its cell's column and row.

    >>> responses(np.array([[[1.0, 5.0, 2.0], [5.0, 0.0, 0.0]]]))
    (array([5.]), array([[1, 0]]))
    """
    channels, _, cols = feature_map.shape
    flat = feature_map.reshape(channels, -1).astype(np.float64)
    at = np.argmax(flat, axis=1)
    return flat[np.arange(channels), at], np.column_stack([at % cols, at // cols])


def best_filters(
    values: Float[np.ndarray, " channels"], known: Strongest, count: int, shown: int
) -> list[int]:
    """Return the filters that an image is most remarkable for, best first.

    By standing: raw responses would give the same few filters of large weights for every image, and
    the share of a filter's mean or maximum those that hardly respond to anything. Standing still
    favours a filter that only one image wakes, of which there would be nothing to compare: so
    filters that respond in fewer images than are shown come last. Of equal standing (all, where
    there is one image) the stronger response is ahead, then the lower number.

    Args:
        values: the image's responses.
        known: of the images that it is compared with.
        count: how many filters.
        shown: images that are shown for each.
    """
    rare = known.responding < min(shown, known.images)
    order = np.lexsort([np.arange(len(values)), -values, -known.standings(values), rare])
    return [int(number) for number in order[:count]]
