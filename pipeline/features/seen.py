"""An image and windows to vectors: all steps in one."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pipeline.config import Features
from pipeline.features.maps import feature_maps, narrow_maps, pool_cells, require_fit
from pipeline.features.preparing import as_seen, prepare
from pipeline.features.resizing import scale_of
from pipeline.features.warping import pool_warped, warp_windows
from pipeline.networks import Network


class Seen:
    """An image that the network has seen once, for vectors of its windows in any layer."""

    @torch.inference_mode()
    def __init__(
        self,
        image: UInt8[np.ndarray, "rows cols 3"],
        windows: Float[np.ndarray, "windows 4"],
        network: Network,
        settings: Features,
        name: str = "given",
    ) -> None:
        """Run the conv net.

        Args:
            image: RGB, as decoded.
            windows: SPEC §1 boxes.
            network: must be able to emit the layers that are asked for.
            settings: the recipe's `[features]`.
            name: of the image, in errors.

        Raises:
            UndecodableImage: see `resize_to_scales`.
        """
        image, windows = as_seen(image, windows, settings)
        resized, places, self._distinct = prepare(image, windows, network, settings)
        self._network, self._settings, self._name = network, settings, name
        self._maps: list[Tensor] = []
        self._pooled: Tensor | None = None
        self.scales: Int[np.ndarray, " windows"] = scale_of(resized, places)
        """Of each window, in pixels."""
        if resized and settings.mode == "warp":
            warped = warp_windows(resized[0], windows, network.preprocessing)
            self._pooled = torch.cat([pool_warped(b, network, settings.levels) for b in warped])
        elif resized:
            self._maps = [feature_maps([one], network)[0] for one in resized]

    @torch.inference_mode()
    def vectors(self, layer: str) -> Float[np.ndarray, "windows dim"]:
        """Return each window's vector of a layer, unnormalised, in `settings.vector_dtype`.

        Raises:
            InputError: a feature does not fit that.
        """
        settings, dtype = self._settings, getattr(torch, self._settings.vector_dtype)
        if not self._maps and self._pooled is None:
            length = self._network.layer_size(layer, settings.levels)
            return np.zeros((0, length), settings.vector_dtype)
        if layer == "pool5" and self._pooled is None:
            narrow, fit = narrow_maps(self._maps, dtype)
            vectors = self._pool(narrow)
            if not fit.all():
                require_fit(self._name, self._pool(self._maps), dtype)
        else:
            wide = self._pool(self._maps) if self._pooled is None else self._pooled
            wide = self._network.fc(wide, layer)
            vectors = wide.to(dtype)
            require_fit(self._name, wide, dtype)
        return vectors.cpu().numpy()[self._distinct.rows]

    def _pool(self, maps: Sequence[Tensor]) -> Tensor:
        settings = self._settings
        largest = settings.scale_rule == "max"
        return pool_cells(maps, self._distinct.cells, settings.levels, largest=largest)


def window_vectors(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
    name: str = "given",
) -> tuple[Float[np.ndarray, "windows dim"], Int[np.ndarray, " windows"]]:
    """Return each window's vector of `settings.layer`, unnormalised, and its scale in pixels.

    What an extractor stores, to the bit; but that fc layers in bfloat16, or on a GPU, round in the
    last digit, because an extractor sends windows of several images through them together.

    Args:
        image: RGB, as decoded.
        windows: SPEC §1 boxes.
        network: must be able to emit the layer.
        settings: the recipe's `[features]`.
        name: of the image, in errors.

    Raises:
        UndecodableImage: see `resize_to_scales`.
        InputError: a feature does not fit `settings.vector_dtype`.
    """
    seen = Seen(image, windows, network, settings, name)
    return seen.vectors(settings.layer), seen.scales
