"""SqueezeNet 1.1, in torchvision's names."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.networks import strips
from pipeline.networks.network import Network


class Fire(nn.Module):
    """A 1x1 convolution, then a 1x1 and a 3x3 one side by side, each followed by ReLU."""

    def __init__(self, channels: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels = 2 * expand

    def path(self) -> tuple[nn.Module, ...]:
        """The way through the larger of the two kernels; the other has the same centre."""
        return (self.squeeze, self.expand3x3)

    def forward(
        self, maps: Float[Tensor, "batch channels rows cols"]
    ) -> Float[Tensor, "batch expanded rows cols"]:
        """The 1x1 maps, then the 3x3 maps."""
        squeezed = self.relu(self.squeeze(maps))
        halves = self.expand1x1(squeezed), self.expand3x3(squeezed)
        if any(half.requires_grad for half in halves):
            return self.relu(torch.cat(halves, dim=1))
        # ReLU writes each half to its place: a quarter less time for a block than cat, then ReLU.
        batch, _, rows, cols = halves[0].shape
        size = (batch, self.out_channels, rows, cols)
        expanded = torch.empty(
            size, dtype=maps.dtype, device=maps.device, memory_format=torch.channels_last
        )
        for half, place in zip(halves, expanded.chunk(2, dim=1), strict=True):
            torch.clamp_min(half, 0, out=place)
        return expanded


class SqueezeNet(Network):
    """SqueezeNet 1.1 up to fire9: stride 16, 512 channels, a classifier of 1x1 convolutions.

    Args:
        classes: channels of ``classifier.1``.
    """

    classifier_name = "classifier.1"
    strip_ends = (3,)  # the first convolution, its ReLU and its pooling

    def __init__(self, *, classes: int = 1000):
        super().__init__("squeezenet1_1", {"classes": classes})
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2),
            nn.ReLU(inplace=True),
            _pool(),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            _pool(),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            _pool(),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, classes, 1), nn.ReLU())

    def path(self) -> tuple[nn.Module, ...]:
        """The layers up to fire9."""
        return (self.features,)

    def feature_maps(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        """The maps of ``path()``; the first convolution and pooling go strip by strip."""
        conv, pool = self.features[0], self.features[2]
        assert isinstance(conv, nn.Conv2d)
        if not strips.apply_to(conv, images):
            return super().feature_maps(images)
        assert isinstance(pool, nn.MaxPool2d)
        return self.features[self.strip_ends[0] :](
            strips.conv_pool(conv, pool, images, normalise=False)
        )

    def logits(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Class scores, never below zero: the classifier ends in a ReLU and an average."""
        if not isinstance(self.classifier[1], nn.Conv2d):
            raise self.no_classifier()
        return self.classifier(self(images)).mean(dim=(2, 3))


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
