"""R-CNN's way: each window is warped to a square, and seen by itself (SPEC §10)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from pipeline import images, spp
from pipeline.features.resizing import Resized
from pipeline.networks import Network, Preprocessing

WARPED_PX = 227
WARPED_TOGETHER = 16  # windows that go through the network at a time


@torch.inference_mode()
def pool_warped(
    warped: Float32[Tensor, "batch 3 227 227"], network: Network, levels: Sequence[int]
) -> Float[Tensor, "batch dim"]:
    """Return the SPP vector of each warped window: the pyramid lies over its whole map.

    Args:
        warped: from `warp_windows`.
        network: that they go through.
        levels: the pyramid; (6,) is the plain network's pooling.

    Source: Girshick et al., R-CNN; SPEC §10.
    """
    device = next(network.parameters()).device
    return spp.SpatialPyramidPooling(levels)(network(warped.to(device)))


def warp_windows(
    image: Resized, windows: Float[np.ndarray, "windows 4"], preprocessing: Preprocessing
) -> Iterator[Float32[Tensor, "batch 3 227 227"]]:
    """Yield windows warped to squares, ready for the network, `WARPED_TOGETHER` at a time.

    Args:
        image: as `prepare` gives it: RGB in 0..255.
        windows: in its pixels.
        preprocessing: of the network.
    """
    pixels = image.pixels.permute(1, 2, 0).numpy()
    for start in range(0, len(windows), WARPED_TOGETHER):
        part = windows[start : start + WARPED_TOGETHER]
        warped = [images.warp(pixels, one, WARPED_PX, fill=preprocessing.fill) for one in part]
        # At once: half the time of one after the other.
        tall = preprocessing.apply(np.concatenate(warped)).permute(1, 2, 0)
        yield tall.reshape(len(part), WARPED_PX, WARPED_PX, 3).permute(0, 3, 1, 2)
