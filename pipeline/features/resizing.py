"""An image at the scales that its windows ask for, ready for the network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from pipeline import images, spp
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.networks import Network

EVERY_SCALE = -1  # in the place of a window's scale, where it is pooled at all of them


@dataclass(frozen=True)
class Resized:
    """An image at one scale, ready for the network."""

    scale_px: int
    pixels: Float32[Tensor, "3 rows cols"]
    factors: tuple[float, float]
    """New pixels per old one, horizontally and vertically: rounding makes them differ."""


def resize_to_scales(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
) -> tuple[list[Resized], Int[np.ndarray, " windows"]]:
    """Return the image at every scale that a window asks for, and each window's place in the list.

    Args:
        image: RGB.
        windows: SPEC §1 boxes in the image's own pixels.
        network: for its preprocessing.
        settings: scales, their rule, and the upper clamp.

    Raises:
        UndecodableImage: the image, a long thin one, would grow beyond `settings.max_pixels`, or
            is clamped to so few pixels that the feature map has no cell.
    """
    size = (image.shape[1], image.shape[0])
    if settings.scale_rule == "max":
        used = np.arange(len(settings.scales) if len(windows) else 0)
        places = np.full(len(windows), EVERY_SCALE)
    else:
        scales = spp.choose_scale(
            windows, size, settings.scales, settings.scale_rule, settings.reference_side_px
        )
        used, places = np.unique(scales, return_inverse=True)
    resized = []
    for index in used:
        scale_px = settings.scales[index]
        width, height = images.resized_size(*size, scale_px, settings.max_side_px)
        if width * height > settings.max_pixels:
            raise images.UndecodableImage(
                f"at scale {scale_px} its {size[0]}×{size[1]} pixels become {width}×{height}, more "
                f"than {settings.max_pixels:,}: set features.max_side_px"
            )
        seen = (settings.crop_px,) * 2 if settings.view == "crop" else (width, height)
        try:
            network.map_size(*seen)
        except InputError as error:
            raise images.UndecodableImage(f"at scale {scale_px}: {error}") from None
        pixels, factors = images.resize(image, scale_px, settings.max_side_px)
        if settings.view == "crop":
            pixels = _central_square(pixels, settings.crop_px)
        resized.append(Resized(scale_px, network.preprocessing.apply(pixels), factors))
    return resized, places


def _central_square(
    pixels: Float32[np.ndarray, "rows cols 3"], side: int
) -> Float32[np.ndarray, "side side 3"]:
    """Cut the middle out; where it cannot lie even, it lies a pixel up or left.

    Raises:
        UndecodableImage: `features.max_side_px` has left less than that of a long thin image.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        raise images.UndecodableImage(
            f"features.max_side_px leaves {width}×{height} pixels of it, too few for "
            f"features.crop_px = {side}"
        )
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def scale_of(
    resized: Sequence[Resized], places: Int[np.ndarray, " windows"]
) -> Int[np.ndarray, " windows"]:
    """Return the scale of each window, int16 pixels; 0 where it is pooled at every scale."""
    known = np.array([image.scale_px for image in resized], dtype=np.int16)
    return np.where(places == EVERY_SCALE, 0, known[places]) if len(known) else known[places]
