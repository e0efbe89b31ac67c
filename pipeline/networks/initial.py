"""Untrained weights: seeded, and scaled so that activations neither fade nor grow."""

import math

import torch
from torch import nn

from pipeline.networks.network import Network
from pipeline.networks.resnet import BasicBlock, Bottleneck

# He's factor 2 is for filters that pass on the mean of what a ReLU gives; of the variance alone,
# which is what filters of zero mean see, a ReLU leaves (1 - 1/pi) / 2.
_GAIN = math.sqrt(2 / (1 - 1 / math.pi))
_CLASSIFIER_STD = 0.01  # SPEC §9: no class is favoured before training


def fill(network: Network, seed: int) -> None:
    """Fill the layers of ``FILLED`` in place; no other random state is read or changed.

    He et al., "Delving deep into rectifiers" (2015), with each filter shifted to zero mean:
    otherwise the mean brightness of a crop drowns its contrast in every layer, and ZF-5, which has
    no batch norm, does not begin to learn. Biases start at zero, batch norm at identity.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _fill_layer(
                    module, generator, _CLASSIFIER_STD if name == network.classifier_name else None
                )
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for module in network.modules():
            # A residual branch at full strength would double the variance in every block.
            if isinstance(module, BasicBlock):
                module.bn2.weight.fill_(0.25)
            elif isinstance(module, Bottleneck):
                module.bn3.weight.fill_(0.25)


@torch.no_grad()
def fill_linear(layers: nn.Module, seed: int) -> None:
    """Fill the linear layers of a module as ``fill`` would."""
    generator = torch.Generator().manual_seed(seed)
    for module in layers.modules():
        if isinstance(module, nn.Linear):
            _fill_layer(module, generator)


@torch.no_grad()
def fill_classifier(layer: nn.Linear, seed: int) -> None:
    """Fill an fc8 from N(0, 0.01²) (SPEC §9), its biases with zeros."""
    layer.weight.normal_(0.0, _CLASSIFIER_STD, generator=torch.Generator().manual_seed(seed))
    layer.bias.zero_()


def _fill_layer(
    module: nn.Conv2d | nn.Linear, generator: torch.Generator, scale: float | None = None
) -> None:
    scale = _GAIN / math.sqrt(module.weight[0].numel()) if scale is None else scale
    module.weight.normal_(0.0, scale, generator=generator)
    module.weight -= module.weight.flatten(1).mean(1).view(-1, *[1] * (module.weight.ndim - 1))
    if module.bias is not None:
        module.bias.zero_()
