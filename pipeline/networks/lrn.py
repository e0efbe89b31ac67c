"""Local response normalisation within each channel."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

ALPHA = 5e-5  # SPEC §2, as is beta = 3/4


class LocalResponseNorm(nn.Module):
    """Each value over the mean square of its 3x3 neighbourhood in its own channel.

    ``value / (1 + alpha * mean of squares) ** 0.75``, where cells outside the map count as zero
    and still count in the mean (SPEC §2; the original network's within-channel mode).
    """

    def path(self) -> tuple[nn.Module, ...]:
        """The neighbourhood reaches a cell further to all sides: centres stay, and so do cells."""
        return (nn.AvgPool2d(3, stride=1, padding=1),)

    def forward(
        self, maps: Float[Tensor, "batch channels rows cols"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        """The normalised maps, in the maps' dtype, computed in float32 at the least.

        1 + s in bfloat16 would keep nothing of an s below 1/256, and lose as much again as the
        result does by being rounded once.
        """
        wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
        # Mixed precision would narrow what was widened: the sums are a convolution.
        with torch.autocast(maps.device.type, enabled=False):
            normalised = _Normalise.apply(wide)
        return normalised.to(maps.dtype)  # pyright: ignore[reportOptionalMemberAccess]


class _Normalise(torch.autograd.Function):
    """Both directions by hand: on a CPU the time goes into passes over memory, and these are few.

    With s = 1 + (alpha/9) * (sum of x² around), y = x s^(-3/4), and for a gradient g of y
    dx = g s^(-3/4) - (3/2)(alpha/9) x * (sum of g x s^(-7/4) around).
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        # A depthwise convolution is two to four times as quick as an average pooling, and two
        # roots are quicker than a general power.
        inverse_root = _around(maps * maps, offset=1.0).rsqrt_()
        factor = inverse_root.sqrt().mul_(inverse_root)
        ctx.save_for_backward(maps, inverse_root, factor)
        return maps * factor

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        maps, inverse_root, factor = ctx.saved_tensors
        direct = gradient * factor
        spread = (direct * maps).mul_(inverse_root).mul_(inverse_root)
        return direct.addcmul_(_around(spread, offset=0.0), maps, value=-1.5)


def _around(maps: Tensor, offset: float) -> Tensor:
    """``offset`` plus alpha/9 of the sum over each cell's 3x3 neighbourhood."""
    channels = maps.shape[1]
    kernel = maps.new_full((channels, 1, 3, 3), ALPHA / 9)
    bias = maps.new_full((channels,), offset)
    return functional.conv2d(maps, kernel, bias, padding=1, groups=channels)
