"""The pyramid as a layer of a network, for whole feature maps and for training through it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d


class SpatialPyramidPooling(nn.Module):
    """Pool whole feature maps `[images channels rows cols]` into SPP vectors `[images dim]`.

    The layout is that of `pipeline.spp.pool`: level, bin row, bin column, channel fastest.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(
        self, maps: Float[Tensor, "images channels rows cols"]
    ) -> Float[Tensor, "images d"]:
        """Pool each map over every level of the pyramid."""
        pooled = [adaptive_max_pool2d(maps, level).flatten(2) for level in self.levels]
        return torch.cat(pooled, dim=2).transpose(1, 2).flatten(1)

    def extra_repr(self) -> str:
        """Show the levels."""
        return f"levels={self.levels}"
