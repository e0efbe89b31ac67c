"""The definition that every way of pooling is held against."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_max_pool2d


@pytest.fixture(scope="session")
def by_torch() -> Callable[..., torch.Tensor]:
    def pool(feature_map: torch.Tensor, cells: Any, levels: Sequence[int]) -> torch.Tensor:
        """Level, bin row, bin column, channel: window after window."""
        vectors = []
        for x0, y0, x1, y1 in np.asarray(cells).tolist():
            part = feature_map[:, y0:y1, x0:x1]
            bins = [adaptive_max_pool2d(part, level).flatten(1) for level in levels]
            vectors.append(torch.cat(bins, dim=1).T.flatten())
        return torch.stack(vectors)

    return pool
