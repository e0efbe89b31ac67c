"""The features of one image, without a recipe or a store: what a run would store of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from numpy.typing import ArrayLike
from pydantic import ValidationError

from pipeline import config, images
from pipeline.config.loading import explain
from pipeline.errors import InputError, RecipeError
from pipeline.features import Seen
from pipeline.networks import Network
from pipeline.threads import torch_threads
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
    image: np.ndarray | Path | str,
    network: Network,
    windows: ArrayLike | config.Windows | None = None,
    *,
    seed: int = 0,
    **features: Any,
) -> Extracted:
    """Return windows of an image and their vectors, as a run would store them.

    Equal, to the bit, to what a store of the same settings has, made on one kind of machine.

    Args:
        image: uint8 RGB, `[rows cols 3]`, or a file.
        network: see `pipeline.networks.load`.
        windows: SPEC §1 boxes in pixels of the image, `[windows 4]`; or how they are made; none:
            by selective search.
        seed: of windows that are made: the recipe's.
        features: fields of a recipe's `[features]`, such as `scales=(480,)`, `levels=(3, 2, 1)`
            and `layer="fc7"`; the others have the recipe's defaults, which are the paper's.

    Raises:
        UndecodableImage: the file is no image, or too large.
        InputError: no RGB image, boxes that are no windows of it, or a layer that the network
            lacks.
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
    if settings.view != "windows":
        raise RecipeError(
            f'view "{settings.view}" is of whole images, which have one vector: leave it out, and '
            "give the box of the whole image"
        )
    if settings.layer != "pool5" and network.head is None:
        raise InputError(f"{settings.layer} is a layer of networks with fc layers: take pool5")
    pixels = _pixels(image, settings.max_pixels)
    if windows is None or isinstance(windows, config.Windows):
        boxes = propose(pixels, windows or config.Windows(), seed)
    else:
        boxes = _boxes(windows, pixels.shape[1], pixels.shape[0])
    with torch_threads(1):  # as an extractor: sums of several threads round differently
        seen = Seen(pixels, boxes, network, settings)
        return Extracted(pixels, boxes, seen.vectors(settings.layer), seen.scales)


def _pixels(image: np.ndarray | Path | str, most: int) -> UInt8[np.ndarray, "rows cols 3"]:
    if not isinstance(image, np.ndarray):
        return images.load(image, max_pixels=most)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"an image is uint8 [rows cols 3], RGB, and this is {image.dtype} "
            f"{list(image.shape)}: pipeline.images.load reads one from a file"
        )
    return image


def _boxes(windows: ArrayLike, width: int, height: int) -> Float32[np.ndarray, "windows 4"]:
    boxes = np.asarray(windows, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(
            f"windows are [windows 4], x_min, y_min, x_max, y_max, and these are "
            f"{list(boxes.shape)}"
        )
    check_windows(boxes, "given", width, height)
    return boxes
