"""ResNet-18 and ResNet-50 up to layer4, in torchvision's names, batch norm frozen."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from pipeline.networks.network import Network


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch norm that always uses its stored statistics: a batch here is whatever images came."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        """Stays as it is, whatever ``mode`` the network is put in."""
        del mode
        return super().train(False)


class _Block(nn.Module):
    """A residual block: what is common to both kinds."""

    expansion = 1
    downsample: nn.Module | None

    def _shortcut(self, channels: int, stride: int) -> nn.Module | None:
        if stride == 1 and channels == self.out_channels:
            return None
        return nn.Sequential(
            nn.Conv2d(channels, self.out_channels, 1, stride=stride, bias=False),
            FrozenBatchNorm(self.out_channels),
        )

    def __init__(self, planes: int):
        super().__init__()
        self.out_channels = planes * self.expansion
        self.relu = nn.ReLU(inplace=True)

    def path(self) -> tuple[nn.Module, ...]:
        """The convolutions of the residual branch; the shortcut keeps their centres."""
        raise NotImplementedError

    def forward(
        self, maps: Float[Tensor, "batch channels rows cols"]
    ) -> Float[Tensor, "batch expanded less_rows less_cols"]:
        """The residual branch added to the shortcut, then ReLU."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        residual = maps
        for layer in self.path():
            residual = layer(residual)
        return self.relu(residual + shortcut)


class BasicBlock(_Block):
    """Two 3x3 convolutions; the first carries the stride."""

    def __init__(self, channels: int, planes: int, stride: int):
        super().__init__(planes)
        self.conv1 = nn.Conv2d(channels, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = FrozenBatchNorm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(planes)
        self.downsample = self._shortcut(channels, stride)

    def path(self) -> tuple[nn.Module, ...]:
        """The residual branch."""
        return (self.conv1, self.bn1, self.relu, self.conv2, self.bn2)


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions; the middle one carries the stride, as torchvision has it."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int):
        super().__init__(planes)
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = FrozenBatchNorm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(planes)
        self.conv3 = nn.Conv2d(planes, self.out_channels, 1, bias=False)
        self.bn3 = FrozenBatchNorm(self.out_channels)
        self.downsample = self._shortcut(channels, stride)

    def path(self) -> tuple[nn.Module, ...]:
        """The residual branch."""
        first = (self.conv1, self.bn1, self.relu, self.conv2, self.bn2, self.relu)
        return (*first, self.conv3, self.bn3)


class ResNet(Network):
    """Four stages of residual blocks: stride 32; no fc6, a linear classifier on the mean map."""

    classifier_name = "fc"

    def __init__(
        self,
        name: str,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        options: dict[str, Any],
    ):
        super().__init__(name, options)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for number, depth in enumerate(depths, start=1):
            planes = 32 * 2**number
            stage = _stage(block, channels, planes, depth, stride=1 if number == 1 else 2)
            self.add_module(f"layer{number}", stage)
            channels = planes * block.expansion
        # torchvision calls its classifier "fc", which here is the method every network has: the
        # layer is registered under that name for the state dict and reached as a registration.
        self._modules["fc"] = nn.Linear(channels, options["classes"])

    def path(self) -> tuple[nn.Module, ...]:
        """The layers up to layer4."""
        stages = (self.get_submodule(f"layer{number}") for number in (1, 2, 3, 4))
        return (self.conv1, self.bn1, self.relu, self.maxpool, *stages)

    def logits(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Class scores from the mean over the map."""
        classifier = self._modules["fc"]
        if classifier is None:
            raise self.no_classifier()
        return classifier(self(images).mean(dim=(2, 3)))


class ResNet18(ResNet):
    """Eight basic blocks, 512 channels.

    Args:
        classes: length of ``fc``.
    """

    def __init__(self, *, classes: int = 1000):
        super().__init__("resnet18", BasicBlock, (2, 2, 2, 2), {"classes": classes})


class ResNet50(ResNet):
    """Sixteen bottleneck blocks, 2,048 channels.

    Args:
        classes: length of ``fc``.
    """

    def __init__(self, *, classes: int = 1000):
        super().__init__("resnet50", Bottleneck, (3, 4, 6, 3), {"classes": classes})


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, planes: int, depth: int, stride: int
) -> nn.Sequential:
    first = block(channels, planes, stride)
    rest = (block(first.out_channels, planes, stride=1) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)
