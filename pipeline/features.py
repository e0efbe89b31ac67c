"""Image and windows to vectors: the one function that joins the rooms."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from pipeline import images, spp
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.networks import Network


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
        try:
            network.map_size(width, height)
        except InputError as error:
            raise images.UndecodableImage(f"at scale {scale_px}: {error}") from None
        pixels, factors = images.resize(image, scale_px, settings.max_side_px)
        resized.append(Resized(scale_px, network.preprocessing.apply(pixels), factors))
    return resized, places


@torch.inference_mode()
def pool_windows(
    resized: list[Resized],
    places: Int[np.ndarray, " windows"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
) -> Float[Tensor, "windows dim"]:
    """Return the SPP vector of each window: the conv net runs once per scale, for all of them.

    Source: He et al., §4.1.
    """
    device = next(network.parameters()).device
    bins = sum(level * level for level in settings.levels)
    pooled = torch.empty(len(windows), bins * network.channels, device=device)
    for place, image in enumerate(resized):
        feature_map = network(image.pixels[None].to(device))[0]
        chosen = np.flatnonzero(places == place)
        scaled = windows[chosen].astype(np.float64) * np.tile(image.factors, 2)
        map_size = (feature_map.shape[2], feature_map.shape[1])
        cells = spp.project(scaled, network.geometry, map_size)
        pooled[torch.from_numpy(chosen)] = spp.pool(feature_map, cells, settings.levels)
    return pooled


@torch.inference_mode()
def window_vectors(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
) -> tuple[Float[np.ndarray, "windows dim"], Int[np.ndarray, " windows"]]:
    """Return each window's vector of `settings.layer`, unnormalised, and its scale in pixels.

    Args:
        image: RGB, as decoded.
        windows: SPEC §1 boxes.
        network: must be able to emit the layer.
        settings: the recipe's `[features]`.
    """
    resized, places = resize_to_scales(image, windows, network, settings)
    pooled = pool_windows(resized, places, windows, network, settings)
    vectors = network.fc(pooled, settings.layer).cpu().numpy()
    return vectors, scale_of(resized, places)


def scale_of(resized: list[Resized], places: Int[np.ndarray, " windows"]) -> np.ndarray:
    """Return the scale of each window, int16 pixels."""
    return np.array([image.scale_px for image in resized], dtype=np.int16)[places]
