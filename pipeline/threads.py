"""How many CPU threads torch uses: sums in another order round differently."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Work with so many threads, and put back the number there was.

    Args:
        count: None leaves it to whoever works inside, and puts back all the same.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
