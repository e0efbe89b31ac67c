"""VGG-16 up to conv5_3, and its fc layers over a 7x7 level, in torchvision's names."""

from jaxtyping import Float
from torch import Tensor, nn

from pipeline.networks import strips
from pipeline.networks.head import Head
from pipeline.networks.linear import ChannelMajorLinear, LowRankLinear
from pipeline.networks.network import Network

# Channels of the 3x3 convolutions of each block; a 2x2 pool stands between blocks.
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(Network):
    """Thirteen conv layers, without the last pooling: the pyramid takes its place.

    On an image of 224x224 px the 14x14 map pooled at level 7 is the network's own last pooling,
    so class scores agree with torchvision's there.

    Args:
        fc_units: length of fc6 and fc7 (``classifier.0`` and ``classifier.3``).
        classes: length of fc8 (``classifier.6``).
    """

    classifier_name = "classifier.6"
    fc_names = {"fc6": "classifier.0", "fc7": "classifier.3"}  # noqa: RUF012 - replaced, never changed
    strip_ends = (5, 10)  # where the second and the third block begin

    def __init__(self, *, fc_units: int = 4096, classes: int = 1000):
        super().__init__("vgg16", {"fc_units": fc_units, "classes": classes}, levels=(7,))
        self.features = nn.Sequential(*_features())
        self.classifier = nn.Sequential(
            ChannelMajorLinear(_BLOCKS[-1][-1], side=7, units=fc_units),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(fc_units, fc_units),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(fc_units, classes),
        )

    def path(self) -> tuple[nn.Module, ...]:
        """The layers up to conv5_3's ReLU."""
        return (self.features,)

    def feature_maps(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        """The maps of ``path()``; the first two blocks, whose maps are large, go strip by strip."""
        layers = list(self.features)
        second, third = self.strip_ends
        if not all(strips.apply_to(m, images) for m in layers[:third] if isinstance(m, nn.Conv2d)):
            return super().feature_maps(images)
        images = strips.chain(layers[second:third], strips.chain(layers[:second], images))
        return self.features[third:](images)

    @property
    def head(self) -> Head:
        """fc6, fc7 and fc8 over SPP vectors of level 7, sharing this network's weights."""
        fc6, fc7, fc8 = (self.classifier[index] for index in (0, 3, 6))
        assert isinstance(fc6, nn.Linear | LowRankLinear)
        assert isinstance(fc7, nn.Linear | LowRankLinear)
        last = fc8 if isinstance(fc8, nn.Linear) else None
        return Head(fc6, fc7, last, self.dropout).train(self.training)


def _features() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for block in _BLOCKS:
        if layers:
            layers.append(nn.MaxPool2d(2, stride=2))
        for count in block:
            layers += [nn.Conv2d(channels, count, 3, padding=1), nn.ReLU(inplace=True)]
            channels = count
    return layers
