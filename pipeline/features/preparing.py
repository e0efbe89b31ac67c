"""What happens to an image before the network sees it; needs no weights."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from pipeline.boxes import flip
from pipeline.config import Features
from pipeline.features.cells import Distinct, distinct_cells, whole_maps
from pipeline.features.resizing import Resized, resize_to_scales
from pipeline.features.warping import WARPED_PX
from pipeline.networks import Network


def prepare(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
) -> tuple[list[Resized], Int[np.ndarray, " windows"], Distinct]:
    """Return an image at its scales, each window's place among them, and the different cells.

    Where windows are warped one by one, that is the image as it is, and each window its own. Where
    whole images are seen, the one window has all cells.

    Raises:
        UndecodableImage: see `resize_to_scales`.
    """
    if settings.mode == "warp":
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
        own = np.arange(len(windows))
        seen = [Resized(WARPED_PX, pixels, (1.0, 1.0))] if len(windows) else []
        return seen, np.zeros(len(windows), np.int64), Distinct((), own)
    resized, places = resize_to_scales(image, windows, network, settings)
    if settings.view != "windows":
        return resized, places, whole_maps(resized, windows, network)
    return resized, places, distinct_cells(resized, places, windows, network)


def as_seen(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    settings: Features,
) -> tuple[UInt8[np.ndarray, "rows cols 3"], Float[np.ndarray, "windows 4"]]:
    """Return an image and its windows as the network sees them: as they are, or mirrored."""
    if not settings.mirrored:
        return image, windows
    return np.ascontiguousarray(image[:, ::-1]), flip(windows, image.shape[1])
