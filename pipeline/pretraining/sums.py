"""What an epoch or a measurement comes to: loss, hits, and what could not be read."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.errors import InputError
from pipeline.pretraining.images import Images
from pipeline.pretraining.ranks import Ranks


@dataclass(frozen=True)
class Outcome:
    """How an epoch, or a measurement, went."""

    loss: float
    """Mean cross-entropy."""
    accuracy: float
    """Share of the images whose highest score is their label's, in 0..1."""
    images: int
    """How many could be read."""
    unreadable: Mapping[int, str]
    """Why the others could not, by their index; of those that this process read."""


class Sums:
    """Loss and hits so far. They stay on the device: to look at them would wait for it."""

    def __init__(self, device: torch.device) -> None:
        self.unreadable: dict[int, str] = {}
        self._numbers = torch.zeros(3, dtype=torch.float64, device=device)

    def add(
        self,
        loss: Float[Tensor, ""],
        scores: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"],
    ) -> None:
        """Add a batch's mean loss and its hits."""
        count = len(targets)
        self._numbers[0] += loss.double() * count
        self._numbers[1] += (scores.argmax(1) == targets).sum()
        self._numbers[2] += count

    def outcome(self, ranks: Ranks, images: Images) -> Outcome:
        """Return the means over all processes.

        Raises:
            InputError: no image could be read, by any of them.
        """
        loss, right, count = ranks.add(self._numbers).tolist()
        if not count:
            told = [f": {images.name(key)}: {why}" for key, why in self.unreadable.items()]
            raise InputError(
                f"not one of {len(images.labels):,} training images could be read"
                f"{(told or [''])[0]}: see that the files are where the table says"
            )
        return Outcome(loss / count, right / count, int(count), self.unreadable)
