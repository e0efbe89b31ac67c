"""From a batch of crops to what a network reads, at whatever size."""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional

from pipeline.networks.preprocessing import Preprocessing


def preprocessed(
    preprocessing: Preprocessing,
    pixels: UInt8[np.ndarray, "batch side side 3"] | Float32[np.ndarray, "batch side side 3"],
) -> Float[Tensor, "batch 3 side side"]:
    """Return a network's input for RGB crops with values 0..255; channels are last in memory."""
    count, side, _, _ = pixels.shape
    if not count:
        return torch.zeros(0, 3, side, side)
    tall = np.asarray(pixels.reshape(-1, side, 3), np.float32)
    return preprocessing.apply(tall).unflatten(1, (count, side)).transpose(0, 1)


def at_size(
    images: Float[Tensor, "batch 3 side side"], side_px: int
) -> Float[Tensor, "batch 3 wanted wanted"]:
    """Return images at another size, antialiased where it is smaller; all at once, on the device.

    The paper resizes a crop for a smaller size, so that both show the same (§2.3).
    """
    own = images.shape[-1]
    if side_px != own:
        images = functional.interpolate(
            images, size=(side_px, side_px), mode="bilinear", antialias=side_px < own
        )
    return images.contiguous(memory_format=torch.channels_last)
