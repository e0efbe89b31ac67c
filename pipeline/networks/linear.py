"""The kinds of fully connected layers that a head is made of."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class ChannelMajorLinear(nn.Linear):
    """A first fc layer whose stored columns run as an ordinary net flattens its last pooling.

    Such a net flattens channels x rows x cols, so its columns have channels slowest; an SPP vector
    has them fastest (SPEC §4). The vectors are turned here, and the weights stay as published: a
    vector has 25,088 numbers where VGG's fc6 has 103 million.

    Args:
        channels: of the pooled map.
        side: bins in a row of its one level.
        units: length of the vectors given.
        options: `nn.Linear`'s own.
    """

    def __init__(self, channels: int, side: int, units: int, **options: Any):
        super().__init__(channels * side * side, units, **options)
        self.channels, self.side = channels, side

    def forward(self, input: Float[Tensor, "windows dim"]) -> Float[Tensor, "windows units"]:
        """Reads SPP vectors of one level, bin-major."""
        bins = input.shape[1] // self.channels
        turned = input.view(-1, bins, self.channels).transpose(1, 2).flatten(1)
        return super().forward(turned)


class LowRankLinear(nn.Module):
    """Two linear layers in the place of one: ``outer(inner(vectors))``, the bias in the second."""

    def __init__(self, inner: nn.Linear, outer: nn.Linear):
        super().__init__()
        self.inner, self.outer = inner, outer

    @property
    def in_features(self) -> int:
        """Length of the vectors read."""
        return self.inner.in_features

    @property
    def out_features(self) -> int:
        """Length of the vectors given."""
        return self.outer.out_features

    def forward(self, vectors: Float[Tensor, "windows dim"]) -> Float[Tensor, "windows units"]:
        """The units before their ReLU."""
        return self.outer(self.inner(vectors))


FullyConnected = nn.Linear | LowRankLinear
