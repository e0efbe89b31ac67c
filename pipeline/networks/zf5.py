"""ZF-5, the paper's fast network: with a pyramid below fc6, and without (SPEC §2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import InputError, RecipeError
from pipeline.networks import strips
from pipeline.networks.head import Head
from pipeline.networks.linear import ChannelMajorLinear, FullyConnected
from pipeline.networks.lrn import LocalResponseNorm
from pipeline.networks.network import Network

# Channels of conv1 to conv5 at width 1 (paper, Table 1).
_CHANNELS = (96, 256, 384, 384, 256)


class ZF5(Network):
    """Five conv layers, a pyramid over conv5's map, three fc layers.

    Args:
        width: multiplies the channels of every conv layer; 0.25 gives 24, 64, 96, 96, 64.
        fc_units: length of fc6 and fc7.
        levels: the pyramid that fc6 reads.
        classes: length of fc8.
        conv1_padding: pixels of zeros around the image; it belongs to the weights.
    """

    usual_preprocessing = "caffe_bgr"
    shrink = 6.5  # an empirical constant of the released code (SPEC §3)
    classifier_name = "fc8"
    fc_names = {"fc6": "fc6", "fc7": "fc7"}  # noqa: RUF012 - replaced, never changed
    strip_ends = (4, 8)  # conv1 and conv2, each with its ReLU, normalisation and pooling

    def __init__(
        self,
        *,
        width: float = 1.0,
        fc_units: int = 4096,
        levels: tuple[int, ...] = (6, 3, 2, 1),
        classes: int = 1000,
        conv1_padding: int = 1,
    ):
        options = {
            "width": width,
            "fc_units": fc_units,
            "levels": tuple(levels),
            "classes": classes,
            "conv1_padding": conv1_padding,
        }
        super().__init__("zf5", options, tuple(levels))
        one, two, three, four, five = (max(1, round(count * width)) for count in _CHANNELS)
        self.conv1 = nn.Conv2d(3, one, 7, stride=2, padding=conv1_padding)
        self.conv2 = nn.Conv2d(one, two, 5, stride=2)
        self.conv3 = nn.Conv2d(two, three, 3, padding=1)
        self.conv4 = nn.Conv2d(three, four, 3, padding=1)
        self.conv5 = nn.Conv2d(four, five, 3, padding=1)
        self.fc6: FullyConnected = self._first_fc(five, fc_units)
        self.fc7: FullyConnected = nn.Linear(fc_units, fc_units)
        self.fc8: nn.Linear | None = nn.Linear(fc_units, classes)
        self.relu = nn.ReLU(inplace=True)
        self.norm = LocalResponseNorm()
        # Caffe rounds the size of a pooled map up: 224 px give 13 cells, 688 px give 42.
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)

    def path(self) -> tuple[nn.Module, ...]:
        """The layers up to conv5's ReLU."""
        relu, norm, pool = self.relu, self.norm, self.pool
        return (
            *(self.conv1, relu, norm, pool),
            *(self.conv2, relu, norm, pool),
            *(self.conv3, relu, self.conv4, relu, self.conv5, relu),
        )

    def feature_maps(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        """The maps of ``path()``.

        Where nothing is trained, conv1 and conv2 go strip by strip with what follows them: the
        whole takes half the time (float32) or a quarter (bfloat16) of one layer after another.
        """
        first = (self.conv1, self.conv2)
        if not all(strips.apply_to(conv, images) for conv in first):
            return super().feature_maps(images)
        for conv in first:
            images = strips.conv_pool(conv, self.pool, images, normalise=True)
        for conv in (self.conv3, self.conv4, self.conv5):
            images = self.relu(conv(images))
        return images

    @property
    def head(self) -> Head:
        """fc6, fc7 and fc8 over SPP vectors, sharing this network's weights."""
        return Head(self.fc6, self.fc7, self.fc8, self.dropout).train(self.training)

    def _first_fc(self, channels: int, units: int) -> nn.Linear:
        return nn.Linear(channels * sum(n * n for n in self.levels), units)


class PlainZF5(ZF5):
    """ZF-5 without a pyramid, the paper's baseline: images of one size, pool5 3x3/2.

    Of 224x224 px conv5's map is 13x13, and on it that pooling *is* level 6 of a pyramid (SPEC §4:
    bins [0,3) [2,5) ... [10,13)), which is how windows of any size reach its fc6. fc6's columns run
    as an ordinary flattened pooling has them.

    Args:
        width: see `ZF5`.
        fc_units: likewise.
        classes: likewise.
        conv1_padding: likewise.
        image_px: side of its images: 224 in the paper; smaller ones are for small data.

    Raises:
        RecipeError: images of that side give a map on which 3x3/2 is no level of a pyramid.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        fc_units: int = 4096,
        classes: int = 1000,
        conv1_padding: int = 1,
        image_px: int = 224,
    ):
        self.image_px = image_px
        self.map_side = _map_side(image_px, conv1_padding)
        self._bins = (self.map_side - 1) // 2
        if not _is_pooled(self.map_side):
            sides = range(max(1, image_px - 64), image_px + 65)
            able = [side for side in sides if _is_pooled(_map_side(side, conv1_padding))]
            nearest = min(able, key=lambda side: abs(side - image_px), default=224)
            raise RecipeError(
                f"plain_zf5 of images of {image_px}x{image_px} px has a map of {self.map_side} "
                "cells a side, and its pooling takes odd numbers of them from 3: the nearest size "
                f"is network.image_px = {nearest}"
            )
        super().__init__(
            width=width,
            fc_units=fc_units,
            levels=(self._bins,),
            classes=classes,
            conv1_padding=conv1_padding,
        )
        self.name = "plain_zf5"
        del self.options["levels"]
        self.options["image_px"] = image_px

    def logits(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Class scores of images of one fixed size.

        Raises:
            InputError: the images do not give the map that fc6 reads.
        """
        height, width = images.shape[2:]
        if self.map_size(width, height) != (self.map_side, self.map_side):
            side = f"{self.image_px}x{self.image_px}"
            raise InputError(
                f"plain_zf5 classifies images of {side} px, these have {width}x{height}: "
                "resize or warp them, or use zf5, which takes any size"
            )
        return super().logits(images)

    def _first_fc(self, channels: int, units: int) -> nn.Linear:
        return ChannelMajorLinear(channels, side=self._bins, units=units)


def _map_side(image_px: int, conv1_padding: int) -> int:
    """How many cells of conv5's map lie along a side; 0: the image is too small for one."""
    with torch.device("meta"):
        narrow = ZF5(width=0.01, fc_units=1, levels=(1,), conv1_padding=conv1_padding)
    try:
        return narrow.map_size(image_px, image_px)[0]
    except InputError:
        return 0


def _is_pooled(map_side: int) -> bool:
    """Whether 3x3/2 on such a map is a level of a pyramid."""
    return map_side >= 3 and map_side % 2 == 1
