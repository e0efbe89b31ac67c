"""The features of one image, without a recipe or a store: what a run would store of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from pydantic import ValidationError

from pipeline import config, images
from pipeline.config.loading import explain
from pipeline.errors import InputError, RecipeError
from pipeline.features import Seen
from pipeline.networks import Network
from pipeline.windows import check_windows
from pipeline.windows.table import propose


@dataclass(frozen=True, repr=False)
class Extracted:
    """Windows of an image, and a vector for each."""

    image: UInt8[np.ndarray, "rows cols 3"]
    """RGB."""
    boxes: Float32[np.ndarray, "windows 4"]
    """SPEC §1 boxes, in pixels of the image."""
    vectors: Float[np.ndarray, "windows dim"]
    """Unnormalised, as a store has them."""
    scales: Int[np.ndarray, " windows"]
    """Shorter side of the image, in pixels, at which each window was pooled."""

    def __repr__(self) -> str:
        rows, cols = self.image.shape[:2]
        count, length = self.vectors.shape
        return f"Extracted({cols}×{rows} pixels, {count:,} windows × {length:,} numbers)"

    def _repr_html_(self) -> str:
        from pipeline.report.notebook import extracted

        return extracted(self)


def extract(
    image: UInt8[np.ndarray, "rows cols 3"] | Path | str,
    network: Network,
    windows: Float[np.ndarray, "windows 4"] | config.Windows | None = None,
    *,
    seed: int = 0,
    **features: Any,
) -> Extracted:
    """Return windows of an image and their vectors, as a run would store them.

    Equal, to the bit, to what a store of the same settings has, made on one kind of machine.

    Args:
        image: RGB, or a file.
        network: see `pipeline.networks.load`.
        windows: boxes, or how they are made; none: selective search's.
        seed: of windows that are made: the recipe's.
        features: fields of a recipe's `[features]`, such as `scales=(480,)`, `levels=(3, 2, 1)`
            and `layer="fc7"`; the others have the recipe's defaults, which are the paper's.

    Raises:
        UndecodableImage: the file is no image, or too large.
        InputError: boxes that are no windows of this image, or a layer that the network lacks.
        RecipeError: a field that `[features]` has not, or a value that it cannot have.

    >>> import numpy as np, pipeline
    >>> noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    >>> network = pipeline.networks.load("zf5", width=0.25, fc_units=64, classes=11)
    >>> boxes = np.array([[0, 0, 60, 60], [30, 20, 119, 89]], np.float32)
    >>> pipeline.extract(noise, network, boxes, scales=(180,), levels=(3, 2, 1))
    Extracted(120×90 pixels, 2 windows × 896 numbers)
    """
    try:
        settings = config.Features.model_validate(features)
    except ValidationError as error:
        raise RecipeError(explain(error, config.Features)) from None
    if settings.layer != "pool5" and network.head is None:
        raise InputError(f"{settings.layer} is a layer of networks with fc layers: take pool5")
    pixels = image if isinstance(image, np.ndarray) else images.load(image)
    if isinstance(windows, np.ndarray):
        check_windows(windows, "given", pixels.shape[1], pixels.shape[0])
        boxes = windows.astype(np.float32, copy=False)
    else:
        boxes = propose(pixels, windows or config.Windows(), seed)
    with torch.inference_mode():
        seen = Seen(pixels, boxes, network, settings)
        return Extracted(pixels, boxes, seen.vectors(settings.layer), seen.scales)
