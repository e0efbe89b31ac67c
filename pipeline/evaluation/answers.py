"""Scores of images for classes beside what they show: which answers are right, and how clearly."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Int8


@dataclass(frozen=True)
class Answers:
    """What images are taken for: each for the class of its highest score."""

    image_ids: Sequence[str]
    labels: Int8[np.ndarray, "images classes"]
    """1 shown, -1 not, 0 hardly to be told."""
    scores: Float[np.ndarray, "images classes"]

    @cached_property
    def taken_for(self) -> Int[np.ndarray, " images"]:
        """The class of each image's highest score; of equal ones the first."""
        return self.scores.argmax(axis=1)

    @cached_property
    def wrong(self) -> Bool[np.ndarray, " images"]:
        """Which images are taken for a class that they do not show, though they show some.

        What is hardly to be told is no mistake.
        """
        taken = np.take_along_axis(self.labels, self.taken_for[:, None], axis=1)[:, 0]
        return (taken < 0) & (self.labels > 0).any(axis=1)

    @cached_property
    def margins(self) -> Float[np.ndarray, " images"]:
        """By how much the highest score of what an image shows leads over all that it does not.

        Below zero the answer is wrong, and so far the image is from the right one. Where all
        classes are shown, the highest score itself: an SVM decides at zero.
        """
        own = np.where(self.labels > 0, self.scores, -np.inf).max(axis=1, initial=-np.inf)
        others = np.where(self.labels < 0, self.scores, -np.inf).max(axis=1, initial=-np.inf)
        return own - np.where(np.isfinite(others), others, 0)

    def shown(self, row: int, classes: Sequence[str]) -> str:
        """Return the names of what an image shows."""
        return ", ".join(classes[k] for k in np.flatnonzero(self.labels[row] > 0).tolist())

    def taken(self, row: int, classes: Sequence[str]) -> str:
        """Return the name of what an image is taken for."""
        return classes[int(self.taken_for[row])]
