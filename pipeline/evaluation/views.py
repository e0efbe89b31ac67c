"""Test views of one image, and class scores averaged over them (paper §3.1; SPEC §10)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from pipeline.config.errors import View
from pipeline.crops import five_places
from pipeline.errors import RecipeError
from pipeline.images import MAX_PIXELS, UndecodableImage, resize, resized_size
from pipeline.networks import Network
from pipeline.networks.whole import class_scores, require_side, takes_any_size


@dataclass(frozen=True)
class TestViews:
    """Which views of an image are scored, at each of some scales; `config.Errors` tells them."""

    __test__ = False  # no test, whatever pytest makes of the name

    kind: View = "10"
    scales: tuple[int, ...] = (256,)
    """Shorter sides in pixels (paper §3.1: 256)."""
    crop_px: int = 224

    @property
    def count(self) -> int:
        """How many views an image has."""
        return len(self.scales) * {"crop": 1, "full": 1, "10": 10, "8+2": 10}[self.kind]

    def require(self, network: Network) -> None:
        """Check that a network takes these views.

        Raises:
            RecipeError: it takes one size only, or larger ones; or crops do not fit in a scale.
        """
        whole, crops = self.kind in ("full", "8+2"), self.kind != "full"
        if whole and not takes_any_size(network):
            raise RecipeError(
                f"{network.name} takes one size of images, and the views {self.kind!r} need whole "
                "images of any shape: choose 'crop' or '10', or a network with a pyramid"
            )
        if crops and min(self.scales) < self.crop_px:
            raise RecipeError(
                f"crops of {self.crop_px} px do not fit in images whose shorter side is "
                f"{min(self.scales)} px: give larger scales or a smaller crop_px"
            )
        for side in [self.crop_px] * crops + [min(self.scales)] * whole:
            require_side(network, side)


def views(
    image: UInt8[np.ndarray, "rows cols 3"], of: TestViews
) -> Iterator[Float32[np.ndarray, "_ _ 3"]]:
    """Yield the views of an image, 0..255: scale by scale, each crop followed by its mirror image.

    Args:
        image: RGB, as decoded.
        of: which views; see `TestViews.require` for what must hold.
    """
    for scale in of.scales:
        width, height = resized_size(image.shape[1], image.shape[0], scale)
        if width * height > MAX_PIXELS:
            raise UndecodableImage(
                f"at scale {scale} it becomes {width}×{height} pixels, more than {MAX_PIXELS:,}"
            )
        resized, _ = resize(image, scale)
        rows, cols, _ = resized.shape
        centre, *corners = (
            resized[top : top + of.crop_px, left : left + of.crop_px]
            for top, left in five_places(rows, cols, of.crop_px)
        )
        if of.kind in ("crop", "full"):
            yield centre if of.kind == "crop" else resized
            continue
        for view in (resized if of.kind == "8+2" else centre, *corners):
            yield view
            yield view[:, ::-1]


def probabilities(
    network: Network, image: UInt8[np.ndarray, "rows cols 3"], of: TestViews
) -> Float64[np.ndarray, " classes"]:
    """Return the probabilities of the classes, averaged over the views of an image.

    Raises:
        RecipeError: the weights came without a classifier.
    """
    device = next(network.parameters()).device
    alike: dict[tuple[int, ...], list[Tensor]] = {}
    for view in views(image, of):
        ready = network.preprocessing.apply(np.ascontiguousarray(view))
        alike.setdefault(tuple(ready.shape), []).append(ready)
    with torch.inference_mode():
        scored = [
            class_scores(network, torch.stack(same).to(device, network.dtype))
            for same in alike.values()
        ]
        shares = torch.cat(scored).double().softmax(dim=1)
    return shares.mean(dim=0).cpu().numpy()
