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
    """Fill every tensor of ``network`` in place; no other random state is read or changed.

    He et al., "Delving deep into rectifiers" (2015), with each filter shifted to zero mean:
    otherwise the mean brightness of a crop drowns its contrast in every layer, and ZF-5, which has
    no batch norm, does not begin to learn. Biases start at zero, batch norm at identity.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                scale = _GAIN / math.sqrt(module.weight[0].numel())
                if name == network.classifier_name:
                    scale = _CLASSIFIER_STD
                module.weight.normal_(0.0, scale, generator=generator)
                module.weight -= (
                    module.weight.flatten(1).mean(1).view(-1, *[1] * (module.weight.ndim - 1))
                )
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for module in network.modules():
            # A residual branch at full strength would double the variance in every block.
            if isinstance(module, BasicBlock):
                module.bn2.weight.fill_(0.25)
            elif isinstance(module, Bottleneck):
                module.bn3.weight.fill_(0.25)
