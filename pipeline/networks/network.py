"""What every network here can do: feature maps, fc layers over SPP vectors, class scores."""

import inspect
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import RecipeError
from pipeline.networks import geometry
from pipeline.networks.head import Head
from pipeline.networks.preprocessing import Preprocessing, preset
from pipeline.spp.layer import SpatialPyramidPooling

FILLED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)  # layers whose numbers `initial.fill` chooses
FEWEST_ROWS = 32  # of 16 and more, all sums of a product ran in one order (MKL, AVX-512)


class Network(nn.Module):
    """A conv net that maps images of any size to feature maps.

    A subclass registers its layers under torchvision's names, so that ``state_dict()`` is
    torchvision's own, and lists in ``path()`` those from the image to the feature maps.

    Attributes:
        name: the architecture, as ``load`` knows it.
        options: what the architecture was built with; recorded with saved weights.
        preprocessing: what the weights expect of their pixels.
        levels: the pyramid that fc6 reads; empty for a network without fc6.
        dropout: of the fc layers while training; not part of the weights.
        added_head: fc layers of an architecture that has none, see ``added_head``.
    """

    # Weights that come without a record of their preprocessing are taken to be of this kind.
    usual_preprocessing: ClassVar[str] = "imagenet_rgb"
    # SPEC §3: pixels by which windows are narrowed; zero unless measured for the architecture.
    shrink: float = 0.0
    # The module that gives class scores: weights may lack it, and it sets the number of classes.
    classifier_name: ClassVar[str]
    # The modules that are fc6 and fc7; empty for a network without them.
    fc_names: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    # Where in path(), its Sequentials unpacked, runs of layers end that go strip by strip on a CPU.
    strip_ends: ClassVar[tuple[int, ...]] = ()

    def __init__(self, name: str, options: dict[str, Any], levels: tuple[int, ...] = ()):
        super().__init__()
        self.name = name
        self.options = options
        self.levels = levels
        self.dropout: float = 0.5
        self.preprocessing: Preprocessing = preset(self.usual_preprocessing)
        self.added_head: Head | None = None

    @classmethod
    def option_names(cls) -> list[str]:
        """What the architecture can be built with."""
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def made(self, seed: int = 0) -> "Network":
        """The outline with memory behind it; the numbers of ``FILLED`` are still to be filled.

        Args:
            seed: of what ``__init__`` draws for layers of other kinds.
        """
        self.to_empty(device="cpu")
        if others := dict(self._others()):
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(seed)
                fresh = self.built_anew()
            held = dict(fresh.named_parameters()) | dict(fresh.named_buffers())
            for name, tensor in others.items():
                tensor.data.copy_(held[name])
        return self

    def built_anew(self) -> "Network":
        """Another one with the same options, as ``__init__`` leaves it."""
        own = {name: self.options[name] for name in self.option_names() if name in self.options}
        return type(self)(**own)

    def _others(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors of layers that we do not know, and of no layer, with their names."""
        for prefix, module in self.named_modules():
            if not isinstance(module, FILLED):
                yield from module.named_parameters(prefix, recurse=False)
                yield from module.named_buffers(prefix, recurse=False)

    def path(self) -> Iterable[nn.Module]:
        """The layers from the image to the feature maps, in order."""
        raise NotImplementedError(f"{type(self).__name__} needs a method path()")

    @property
    def dtype(self) -> torch.dtype:
        """What weights are held in, and feature maps and fc vectors come in."""
        return next(self.parameters()).dtype

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        """Feature maps of preprocessed images, ReLU included, in the network's own dtype.

        Channels are last in memory, whatever they were in the images. On a CPU without bfloat16
        instructions (x86: AVX512-BF16 or AMX) a network in bfloat16 works too, but slower than one
        in float32.
        """
        return self.feature_maps(images.to(self.dtype, memory_format=torch.channels_last))

    def feature_maps(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        """``forward`` for images of the network's own dtype: ``path()`` in order.

        An architecture may have a quicker way to the same maps.
        """
        for layer in self.path():
            images = layer(images)
        return images

    @cached_property
    def geometry(self) -> geometry.Geometry:
        """Stride and first receptive-field centre in pixels, derived from ``path()``."""
        return geometry.derive(self.path(), self.shrink)

    @cached_property
    def channels(self) -> int:
        """Channels of the feature maps."""
        return geometry.out_channels(self.path())

    def map_size(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of the feature map of an image of ``width`` x ``height`` px."""
        return geometry.map_size(self.path(), width, height)

    @cached_property
    def receptive_field_px(self) -> int | None:
        """Side of a cell's receptive field in pixels, derived from ``path()``.

        None: it is not known which pixels reach a cell.
        """
        return geometry.receptive_field_px(self.path())

    def receptive_field(
        self, cell: tuple[int, int], width: int, height: int
    ) -> tuple[int, int, int, int] | None:
        """The pixels of an image of ``width`` x ``height`` px that reach one cell; None: unknown.

        Raises:
            InputError: there is no such cell.
        """
        return geometry.receptive_field(self.path(), cell, width, height)

    @property
    def head(self) -> Head | None:
        """The fc layers, sharing this network's weights; ``None`` where there are none."""
        if self.added_head is not None:
            self.added_head.dropout = self.dropout
        return self.added_head

    @property
    def layers(self) -> tuple[str, ...]:
        """Window layers that this network can emit."""
        return ("pool5",) if self.head is None else ("pool5", "fc6", "fc7")

    def layer_size(self, layer: str, levels: Iterable[int] | None = None) -> int:
        """Length of the vectors of ``layer``; ``pool5`` depends on the pyramid's ``levels``."""
        self._require(layer)
        if self.head is not None and layer != "pool5":
            return self.head.units
        return self.channels * sum(n * n for n in (self.levels if levels is None else levels))

    def fc(
        self, vectors: Float[Tensor, "windows dim"], layer: str
    ) -> Float[Tensor, "windows units"]:
        """``layer`` for SPP vectors, after ReLU and with dropout off (SPEC §5), in ``dtype``.

        In float32 on a CPU a window's numbers do not depend on how many go through together. (In
        bfloat16, and on a GPU, the last digit may.)

        Args:
            vectors: SPP vectors over ``self.levels``, of any floating-point dtype; returned as they
                are for ``pool5``.
            layer: one of ``self.layers``.

        Raises:
            RecipeError: the network cannot emit ``layer``, or reads another pyramid.
        """
        self._require(layer)
        head = self.head
        if layer == "pool5" or head is None:
            return vectors
        if vectors.shape[1] != head.fc6.in_features:
            raise RecipeError(
                f"fc6 of {self.name} reads {head.fc6.in_features} numbers (levels {self.levels}), "
                f"the SPP vectors have {vectors.shape[1]}: set levels to {self.levels}"
            )
        # A matrix library takes another way, which rounds differently, where rows are few.
        few = max(0, FEWEST_ROWS - len(vectors))
        rows = functional.pad(vectors.to(self.dtype), (0, 0, 0, few))
        return head.hidden(rows, layer)[: len(vectors)]

    def logits(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Class scores of whole images: the pyramid is laid over the entire map.

        Raises:
            RecipeError: the weights came without a classifier.
        """
        head = self.head
        if head is None:
            raise NotImplementedError(f"{self.name} has no fc layers and no logits of its own")
        return head(SpatialPyramidPooling(self.levels)(self(images)))

    def no_classifier(self) -> RecipeError:
        """The error of a network whose weights came without their last layer."""
        return RecipeError(
            f"the weights of {self.name} have no {self.classifier_name}: "
            "class scores need weights with a classifier"
        )

    def _require(self, layer: str) -> None:
        if layer not in self.layers:
            more = "" if self.head else "; ftfc6 and ftfc7 add fc layers to it, and fine-tune them"
            raise RecipeError(
                f"{self.name} has no layer {layer!r}: choose among {', '.join(self.layers)}{more}"
            )
