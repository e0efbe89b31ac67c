"""A network of another library as one of ours: whole cells, a geometry that is measured, saving."""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import InputError, RecipeError
from pipeline.networks import traced
from pipeline.networks.geometry import Geometry
from pipeline.networks.network import Network
from pipeline.networks.preprocessing import Preprocessing

USUAL_STRIDE = 16  # paper §4: conv5 of ZF-5, and of VGG-16
# What the libraries raise where a network does not take an image; both are bad at saying why.
FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError)


class Backbone(Network):
    """A network that gives several maps, of which one is used, and whose layers are another's.

    An image is padded on the right and at the bottom, with what the network sees as zero (the mean
    colour), to a multiple of the coarsest map's stride, and cells that see nothing but padding are
    cut off. So no pixel is lost where a network would drop what is left of the last patch, every
    image of at least one pixel has a map, and a map has ``ceil(side / stride)`` cells, whatever the
    layers do at borders. Cells keep their centres. (Stages behind the chosen one run, too: a
    library's networks do not stop halfway.)

    The geometry is measured, not derived from a path of layers, for these networks have none:
    shortcuts, attention, and patches put together by indexing. One run without numbers shows each
    operation that changes the number of columns (see ``traced``). Attention sees far beyond a
    cell, but is centred on it: what counts is where a cell's own pixels are.

    A subclass says how its library builds the network, and fills it.
    """

    classifier_name = "classifier"  # these have none

    def __init__(self, name: str, config: str, stage: int | None):
        """Draw the network on the meta device.

        Args:
            name: the library's.
            config: how the library describes the network, JSON.
            stage: number of the map, from 0; None: the last whose stride is at most 16 px, or
                the last of all.

        Raises:
            RecipeError: there is no such map, or the network does not take images of any size.
        """
        super().__init__(name, {"config": config})
        self.register_module("classifier", None)
        with torch.device("meta"):
            offered = self.build(None).eval()
        self._offer = self._run(offered, traced.COLUMNS_PX, traced.ROWS_PX)
        self.stage = self._chosen(stage)
        self.options["stage"] = self.stage
        self.stride = int(self._strides[self.stage][1])
        self._whole = int(max(across for _, across in self._strides))  # images are padded to it
        with torch.device("meta"):
            self.backbone = self.build(self.stage).eval()
        # By the network as it is drawn, also once it is filled.
        self._seen = lru_cache(maxsize=64)(partial(self._run, self.backbone))
        rows, columns = self._seen(self._whole, self._whole).maps[0][2:]  # the smallest of all
        if (columns * self.stride, rows * self.stride) != (self._whole, self._whole):
            raise RecipeError(
                f"{self.title} gives {columns}x{rows} cells for {self._whole}x{self._whole} px, "
                f"which its stride of {self.stride} px does not explain: choose another stage, or "
                "another network"
            )

    # What a library's adapter has to say.

    @staticmethod
    def described(folder: Path) -> str:
        """Return what is recorded of a folder's network, JSON."""
        raise NotImplementedError

    @staticmethod
    def preprocessing_in(folder: Path) -> Preprocessing | None:
        """Return what a folder says that its weights expect of their pixels, if it does."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What the network is called in errors."""
        raise NotImplementedError

    @property
    def stage_names(self) -> Sequence[str]:
        """What the library calls its maps, in order."""
        raise NotImplementedError

    def build(self, stage: int | None) -> nn.Module:
        """Return the library's network, untrained, that gives one map; None: all of them."""
        raise NotImplementedError

    def maps(self, network: nn.Module, images: Tensor) -> Sequence[Tensor]:
        """Return the maps that ``build``'s network gives."""
        raise NotImplementedError

    def take(self, state: Mapping[str, Tensor], source: str) -> None:
        """Fill the network with what the library itself saved.

        Args:
            state: tensors by the library's names for them.
            source: where they come from, for errors.

        Raises:
            InputError: tensors are missing, or have another shape.
        """
        raise NotImplementedError

    # What every network here can do.

    def made(self, seed: int = 0) -> "Backbone":
        """The network with memory behind it, and what no weights file holds filled in."""
        del seed  # weights bring all that is drawn
        # The libraries fill new layers from the global random state.
        with torch.random.fork_rng(devices=[]):
            self.backbone = self.build(self.stage).eval()
        if self.added_head is not None:
            self.added_head.to_empty(device="cpu")
        return self

    def feature_maps(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        """The chosen map; its numbers may be negative, other than those of our own networks."""
        height, width = images.shape[2:]
        columns, rows = self.map_size(width, height)
        padded = functional.pad(images, (0, -width % self._whole, 0, -height % self._whole))
        (found,) = self.maps(self.backbone, padded)
        return found[:, :, :rows, :columns].contiguous(memory_format=torch.channels_last)

    @cached_property
    def geometry(self) -> Geometry:
        """Stride and first receptive-field centre in pixels, measured (see the class).

        Raises:
            RecipeError: operations were seen whose effect on the centre is not known.
        """
        centre = traced.centre(self._offer.steps, traced.COLUMNS_PX // self.stride)
        if centre is None:
            raise RecipeError(
                f"where the cells of {self.title} lie cannot be told from its layers: choose "
                "another stage, or another network"
            )
        return Geometry(self.stride, centre, self.shrink)

    @cached_property
    def channels(self) -> int:
        """Channels of the chosen map."""
        return self._offer.maps[self.stage][1]

    def map_size(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of the map of an image of ``width`` x ``height`` px.

        Raises:
            InputError: the image has no pixel.
        """
        if min(width, height) < 1:
            raise InputError(
                f"an image of {width}x{height} px leaves no cell in the feature map: "
                "resize it to a larger shorter side"
            )
        return -(-width // self.stride), -(-height // self.stride)

    @cached_property
    def receptive_field_px(self) -> None:
        """None: attention sees all of an image, and other ways through are not known either."""
        return None

    def receptive_field(self, cell: tuple[int, int], width: int, height: int) -> None:
        """None, as ``receptive_field_px``: a cell's centre is all that is known of its place."""
        del cell, width, height

    def seen(self, width: int, height: int) -> traced.Trace:
        """What the network does to an image of that many pixels, padded; without any numbers."""
        return self._seen(*(side + -side % self._whole for side in (width, height)))

    def to(self, *args: Any, **kwargs: Any) -> "Backbone":
        """As every module's, but that frequencies keep their precision.

        They turn positions into angles. The libraries compute those in float32, and a frequency
        that was rounded to bfloat16 would turn far cells by the wrong angle.
        """
        kept = [
            (module, module.inv_freq)
            for module in self.backbone.modules()
            if isinstance(getattr(module, "inv_freq", None), Tensor)
        ]
        super().to(*args, **kwargs)
        for module, frequencies in kept:
            module.inv_freq = frequencies.to(next(self.parameters()).device)
        return self

    @property
    def _strides(self) -> list[tuple[float, float]]:
        """Pixels down and across from cell to cell, of each map; 0 where it is none."""
        sides = (traced.ROWS_PX, traced.COLUMNS_PX)
        return [
            (sides[0] / shape[2], sides[1] / shape[3]) if len(shape) == 4 else (0.0, 0.0)
            for shape in self._offer.maps
        ]

    def _chosen(self, stage: int | None) -> int:
        strides = self._strides
        if stage is None:
            fine = [n for n, (_, across) in enumerate(strides) if 0 < across <= USUAL_STRIDE]
            stage = fine[-1] if fine else len(strides) - 1
        names = list(self.stage_names)[: len(strides)]
        if stage >= len(names):
            listed = (
                f"{number} ({name}, stride {across:g})"
                for number, (name, (_, across)) in enumerate(zip(names, strides, strict=True))
            )
            raise RecipeError(
                f"{self.title} has no stage {stage}: set network.stage to one of "
                + ", ".join(listed)
            )
        down, across = strides[stage]
        if down != across or across < 1 or across != int(across):
            raise RecipeError(
                f"stage {stage} ({names[stage]}) of {self.title} has cells {across:g} px across "
                f"and {down:g} px down: a stage must have square ones of whole pixels"
            )
        return stage

    def _run(self, network: nn.Module, width: int, height: int) -> traced.Trace:
        weights = [*network.parameters(), *network.buffers()]
        try:
            return traced.run(lambda image: self.maps(network, image), weights, width, height)
        except FAILURES as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RecipeError(
                f"{self.title} does not take images of any size: at {width}x{height} px it says "
                f"{reason!r}; choose another network"
            ) from error
