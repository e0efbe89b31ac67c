"""Truncated singular values: fc6 and fc7 as products of two thin layers.

Girshick, "Fast R-CNN" (2015), §3.1: with W = U S V^T and its r largest singular values kept, a
layer of u outputs and v inputs takes r (u + v) multiplications a vector instead of u v.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import RecipeError
from pipeline.networks.linear import ChannelMajorLinear, LowRankLinear
from pipeline.networks.network import Network
from pipeline.threads import torch_threads

LAYERS = ("fc6", "fc7")


def replace(network: Network, layer: str, rank: int, *, fill: bool) -> None:
    """Put two layers of `rank` in the place of the network's `layer`, and record it.

    Args:
        network: with a full `layer`.
        layer: `fc6` or `fc7`.
        rank: singular values kept.
        fill: whether the new weights are made from the old ones; otherwise they are the caller's.

    Raises:
        RecipeError: the network has no such layer, or not that many singular values.
    """
    name = network.fc_names.get(layer)
    if name is None:
        raise RecipeError(f"{network.name} has no {layer}: leave out {layer}_rank")
    full = network.get_submodule(name)
    assert isinstance(full, nn.Linear)
    units, length = full.weight.shape
    if not 1 <= rank <= min(units, length):
        raise RecipeError(
            f"{layer}_rank is {rank}: {layer} has {units}x{length} weights, of rank at most "
            f"{min(units, length)}; it gets quicker below {units * length // (units + length)}"
        )
    network.set_submodule(name, factorised(full, rank) if fill else _shaped_like(full, rank))
    network.options[f"{layer}_rank"] = rank


@torch.no_grad()
def factorised(full: nn.Linear, rank: int) -> LowRankLinear:
    """The layer of that rank that is nearest to `full`, its largest singular values kept.

    The vectors of the shorter side come from an eigendecomposition of W W^T (or W^T W) in float32:
    12 seconds for 4,096 x 12,800, on one thread: more would round differently. They are
    orthonormal however near two singular values lie, so that at full rank the product is W again.
    """
    layer = _shaped_like(full, rank)
    weight = full.weight.float()
    with torch_threads(1):
        if weight.shape[0] <= weight.shape[1]:
            outer = _leading(weight @ weight.T, rank)
            inner = outer.T @ weight
        else:
            inner = _leading(weight.T @ weight, rank).T
            outer = weight @ inner.T
    layer.inner.weight.copy_(inner)
    layer.outer.weight.copy_(outer)
    layer.outer.bias.copy_(full.bias)
    return layer


def _shaped_like(full: nn.Linear, rank: int) -> LowRankLinear:
    units, length = full.weight.shape
    # As catalogue does: torch would fill a new layer from its global random state.
    with torch.device("meta"):
        if isinstance(full, ChannelMajorLinear):
            inner = ChannelMajorLinear(full.channels, full.side, rank, bias=False)
        else:
            inner = nn.Linear(length, rank, bias=False)
        layer = LowRankLinear(inner, nn.Linear(rank, units))
    return layer.to(full.weight.dtype).to_empty(device=full.weight.device)


def _leading(gram: Float[Tensor, "n n"], rank: int) -> Float[Tensor, "n rank"]:
    """Eigenvectors of the largest eigenvalues, largest first."""
    return torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :rank]
