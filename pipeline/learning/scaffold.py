"""Batch norm for the time of training only: put on as hooks, folded into the weights afterwards.

ZF-5 has no batch norm, and without it a small net's loss stays at chance for most of a short
training. A layer followed by batch norm with fixed statistics *is* a layer with other weights, so
what remains after folding is exactly the architecture without it.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.networks.network import Network
from pipeline.networks.whole import class_scores

Layer = nn.Conv2d | nn.Linear


class Scaffold:
    """Batch norm behind each layer with a bias, but for the classifier.

    Layers without a bias are left out: they have a batch norm of their own.
    """

    def __init__(self, network: Network):
        self._pairs: list[tuple[Layer, nn.BatchNorm1d | nn.BatchNorm2d]] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        for name, layer in network.named_modules():
            if name == network.classifier_name or not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            if layer.bias is not None:
                self._add(layer)

    @property
    def norms(self) -> tuple[nn.BatchNorm1d | nn.BatchNorm2d, ...]:
        """The batch norms, in the layers' order."""
        return tuple(norm for _, norm in self._pairs)

    def parameters(self) -> Iterable[nn.Parameter]:
        """What is trained besides the network's own weights."""
        return (parameter for _, norm in self._pairs for parameter in norm.parameters())

    def estimate(self, network: Network, batches: Iterable[Tensor]) -> None:
        """Replace the running statistics by plain means over ``batches``, with dropout off."""
        network.eval()
        for _, norm in self._pairs:
            norm.reset_running_stats()
            norm.momentum = None  # torch: a cumulative mean instead of a moving one
            norm.train()
        with torch.no_grad():
            for images in batches:
                class_scores(network, images)
        self.freeze()

    def freeze(self) -> None:
        """Use the statistics as they stand instead of those of each batch."""
        for _, norm in self._pairs:
            norm.eval()

    def thaw(self) -> None:
        """Use the statistics of each batch again, and keep moving ones."""
        for _, norm in self._pairs:
            norm.train()

    def fold(self) -> None:
        """Take batch norm away and leave its effect in the layers' weights and biases."""
        for hook in self._hooks:
            hook.remove()
        with torch.no_grad():
            for layer, norm in self._pairs:
                mean, variance = norm.running_mean, norm.running_var
                assert mean is not None
                assert variance is not None
                factor = norm.weight * torch.rsqrt(variance + norm.eps)
                layer.weight *= factor.view(-1, *[1] * (layer.weight.ndim - 1))
                if layer.bias is not None:
                    layer.bias.sub_(mean).mul_(factor).add_(norm.bias)

    def _add(self, layer: Layer) -> None:
        if isinstance(layer, nn.Conv2d):
            norm: nn.BatchNorm1d | nn.BatchNorm2d = nn.BatchNorm2d(layer.out_channels)
        else:
            norm = nn.BatchNorm1d(layer.out_features)
        norm = norm.to(layer.weight.device)
        self._pairs.append((layer, norm))

        def normalise(_layer: nn.Module, _input: Any, output: Any) -> Tensor:
            return _normalise(norm, output)

        self._hooks.append(layer.register_forward_hook(normalise))


def _normalise(norm: nn.BatchNorm1d | nn.BatchNorm2d, output: Tensor) -> Tensor:
    """Batch norm; one value a channel has no variance, and there the moving statistics are used.

    The last batch of an epoch may be a single image.
    """
    if not norm.training or output.numel() > output.shape[1]:
        return norm(output)
    norm.eval()
    try:
        return norm(output)
    finally:
        norm.train()
