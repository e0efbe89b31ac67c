"""What weights expect of their pixels. It belongs to the weights, not to the architecture."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import InputError, RecipeError


@dataclass(frozen=True)
class Preprocessing:
    """From an RGB image in 0..255 to the numbers that a first layer was trained on.

    Attributes:
        channel_order: ``"RGB"`` or ``"BGR"``.
        value_range: what 255 becomes before mean and std apply: 1.0 or 255.0.
        mean: subtracted per channel, in ``channel_order``, in units of ``value_range``.
        std: divided by per channel, after the mean.
    """

    channel_order: str
    value_range: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self):
        numbers = (self.value_range, *self.mean, *self.std)
        if self.channel_order not in ("RGB", "BGR"):
            raise InputError(f"channel_order is {self.channel_order!r}: say 'RGB' or 'BGR'")
        if len(self.mean) != 3 or len(self.std) != 3 or not np.isfinite(numbers).all():
            raise InputError(
                f"mean {self.mean} and std {self.std} must be three finite numbers each"
            )
        if self.value_range <= 0 or min(self.std) <= 0:
            raise InputError(
                f"value_range {self.value_range} and std {self.std} must be above zero"
            )

    def apply(self, image: Float[np.ndarray, "rows cols 3"]) -> Float[Tensor, "3 rows cols"]:
        """The network's input for an RGB image with values 0..255; channels are last in memory."""
        rows, cols, _ = image.shape
        pixels = np.asarray(image, dtype=np.float32)
        if self.channel_order == "BGR":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        # One multiplication and one addition a pixel, folded beforehand, and by whole rows: numpy
        # takes eight times as long where its innermost loop has three numbers.
        factor = np.asarray(self.value_range / 255.0 / np.asarray(self.std), dtype=np.float32)
        offset = np.asarray(-np.asarray(self.mean) / np.asarray(self.std), dtype=np.float32)
        scaled = pixels.reshape(rows, cols * 3) * np.tile(factor, cols)
        scaled += np.tile(offset, cols)
        return torch.from_numpy(scaled.reshape(rows, cols, 3)).permute(2, 0, 1)

    @property
    def fill(self) -> tuple[float, float, float]:
        """The RGB colour, 0..255, that becomes zero: what pads an image for the network."""
        red, green, blue = (mean * 255.0 / self.value_range for mean in self.mean)
        return (red, green, blue) if self.channel_order == "RGB" else (blue, green, red)

    def to_json(self) -> str:
        """The text stored in a weights file under ``preprocessing``."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Read what ``to_json`` wrote.

        Raises:
            InputError: the text is not a preprocessing record.
        """
        try:
            return cls._from_fields(json.loads(text))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(
                f"not a preprocessing record: {text[:80]!r} ({error}); "
                "name a preset or give a Preprocessing"
            ) from error

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> "Preprocessing":
        return cls(
            channel_order=fields["channel_order"],
            value_range=float(fields["value_range"]),
            mean=_triple(fields["mean"]),
            std=_triple(fields["std"]),
        )


PRESETS = {
    # The statistics every torchvision classification weight was trained with.
    "imagenet_rgb": Preprocessing(
        "RGB", 1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    # Mean pixel of Caffe's ilsvrc_2012_mean.npy, blue first; Caffe's nets divide by nothing.
    "caffe_bgr": Preprocessing(
        "BGR", 255.0, mean=(104.00698793, 116.66876762, 122.67891434), std=(1.0, 1.0, 1.0)
    ),
}


def preset(name: str) -> Preprocessing:
    """The preprocessing of that name.

    Raises:
        RecipeError: no preset has that name.
    """
    if name not in PRESETS:
        raise RecipeError(
            f"no preprocessing preset is called {name!r}: choose among {', '.join(PRESETS)}"
        )
    return PRESETS[name]


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
