"""Several processes that train one network: which share is whose, and sums over all of them.

Whoever starts the processes initialises `torch.distributed` in each; without it there is one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """This process among all that train."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Ranks":
        """Return this process's place in the initialised group; alone where there is none."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, batch: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, " own"]:
        """Return this process's part of a batch: contiguous, and as large as any other or one less.

        >>> Ranks(1, 2).share(np.arange(5))
        array([3, 4])
        """
        return np.array_split(batch, self.count)[self.rank]

    def add(self, numbers: Tensor) -> Tensor:
        """Add the numbers of all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(numbers)
        return numbers

    def broadcast_from_first(self, number: int) -> int:
        """Return the number that the first process gives here."""
        given = torch.tensor(number if self.first else 0, device=own_device())
        return int(self.add(given))

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            distributed.barrier()


def own_device() -> torch.device:
    """Return the GPU of this process, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())
