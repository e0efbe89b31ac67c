"""The learning rate: one cycle over all steps, or less wherever held-out accuracy stands still."""

import math
from dataclasses import dataclass, replace

from pipeline.config import Pretrain

_RISE = 0.1  # of all steps
_BEGIN, _END = 25.0, 1e4  # the highest rate over the first, and that over the last: torch's own


def one_cycle(step: int, steps: int, highest: float) -> float:
    """Return the rate of a step, from 0: torch's `OneCycleLR` with `pct_start=0.1`, to the bit.

    >>> [round(one_cycle(step, 100, 1.0), 3) for step in (0, 9, 54, 99)]
    [0.04, 1.0, 0.5, 0.0]
    """
    peak, last = _RISE * steps - 1, steps - 1
    if step <= peak:
        return _along_cosine(highest / _BEGIN, highest, step / peak if peak else 0.0)
    return _along_cosine(highest, highest / _BEGIN / _END, (step - peak) / (last - peak))


def _along_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2.0 * (math.cos(math.pi * share) + 1)


@dataclass(frozen=True)
class Plateau:
    """How far a training is that lowers its rate where held-out accuracy no longer rises."""

    rate: float
    best: float = -1.0
    """Highest accuracy so far."""
    waited: int = 0
    """Epochs since."""
    drops: int = 0
    ended: bool = False

    def after(self, accuracy: float, settings: Pretrain) -> "Plateau":
        """Return where an epoch with such an accuracy leads.

        The rate is divided by ten (paper §3.1), and training ends where it was so often enough.
        """
        if accuracy > self.best:
            return replace(self, best=accuracy, waited=0)
        if self.waited + 1 < settings.patience:
            return replace(self, waited=self.waited + 1)
        if self.drops == settings.drops:
            return replace(self, waited=self.waited + 1, ended=True)
        return replace(self, rate=self.rate / 10, waited=0, drops=self.drops + 1)
