"""Batches of a fine-tuning: of each step its own, whoever asks and however often."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from pipeline.config import Finetune
from pipeline.learning.finetune_rows import BACKGROUND, Rows
from pipeline.store.rows import Vectors

_DRAWN = 5  # purpose of the random numbers


class Draw:
    """Draws batches: of each step its own, whoever asks and however often."""

    def __init__(
        self, vectors: Sequence[Vectors], rows: Rows, settings: Finetune, seed: int
    ) -> None:
        self._vectors, self._rows, self._settings, self._seed = vectors, rows, settings, seed

    def ahead(
        self, steps: range
    ) -> Iterator[tuple[int, tuple[Float[Tensor, "batch dim"], Int64[Tensor, " batch"]]]]:
        """Yield each step with its batch, and read the next one meanwhile."""
        with ThreadPoolExecutor(1, thread_name_prefix="draw") as pool:
            coming = pool.submit(self.batch, steps[0])
            for step in steps:
                drawn = coming.result()
                if step + 1 in steps:
                    coming = pool.submit(self.batch, step + 1)
                yield step, drawn

    def batch(self, step: int) -> tuple[Float[Tensor, "batch dim"], Int64[Tensor, " batch"]]:
        """Return the vectors and labels of one step; positives first."""
        random = np.random.default_rng([self._seed, _DRAWN, step])
        return draw(self._vectors, self._rows, self._settings, self._settings.batch_size, random)


def draw(
    vectors: Sequence[Vectors],
    rows: Rows,
    settings: Finetune,
    count: int,
    random: np.random.Generator,
) -> tuple[Float[Tensor, "count dim"], Int64[Tensor, " count"]]:
    """Return so many windows, each as likely as another of its kind, and their labels."""
    positives = round(count * settings.positive_share)
    chosen = random.integers(len(rows.positives), size=positives)
    background = random.integers(len(rows.background), size=count - positives)
    numbers = np.concatenate([rows.positives[chosen], rows.background[background]])
    labels = np.full(count, BACKGROUND)
    labels[:positives] = rows.labels[chosen]
    return torch.from_numpy(_take(vectors, numbers)), torch.from_numpy(labels)


def _take(
    vectors: Sequence[Vectors], numbers: Int[np.ndarray, " wanted"]
) -> Float[np.ndarray, "wanted dim"]:
    """Return rows of several stores, numbered one store after the other."""
    spec, start = vectors[0].spec, 0
    out = np.empty((len(numbers), spec.length), spec.dtype)
    for each in vectors:
        own = (numbers >= start) & (numbers < start + len(each))
        out[own] = each.take(numbers[own] - start)
        start += len(each)
    return out
