"""The first stage: a file's bytes to pixels at every scale, and the cells of its windows."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline import config, features, images, networks
from pipeline.store.schema import box_array
from pipeline.windows.table import WINDOWS

_NO_WINDOWS = WINDOWS.empty_table()
_NO_PIXELS = torch.empty(3, 0, 0)
_NO_CELLS = features.Distinct((), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Ready:
    """An image that is decoded and resized, or the reason why it cannot be."""

    image_id: str
    sha256: bytes
    windows: pa.Table
    reason: str | None = None
    resized: list[features.Resized] = field(default_factory=list)
    places: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    distinct: features.Distinct = _NO_CELLS

    @cached_property
    def sizes(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Scale and size of the pixels: images that agree can run through the network together."""
        return tuple((one.scale_px, tuple(one.pixels.shape)) for one in self.resized)

    def without_pixels(self) -> "Ready":
        """Return what is needed once the network has seen the image."""
        return replace(self, resized=[replace(one, pixels=_NO_PIXELS) for one in self.resized])


class Decoder:
    """Reads the images of one shard; holds nothing but their windows, and is safe in threads."""

    def __init__(
        self,
        rows: Mapping[str, Mapping[str, Any]],
        windows: Mapping[str, pa.Table],
        network: networks.Network,
        settings: config.Features,
    ) -> None:
        self._rows, self._windows = rows, windows
        self._network, self._settings = network, settings

    def __call__(self, image_id: str) -> Ready:
        """Read, decode and resize one image; what cannot be is quarantined with its reason."""
        row, table = self._rows[image_id], self._windows.get(image_id, _NO_WINDOWS)
        try:
            data = Path(row["file"]).read_bytes()
        except FileNotFoundError:  # other errors are the disk's, and pass: the shard fails
            return Ready(image_id, b"", table, f"there is no file {row['file']}")
        digest, boxes = sha256(data).digest(), box_array(table)
        try:
            image = images.decode(data, max_pixels=self._settings.max_pixels)
            _require_size(image, row["width"], row["height"])
            resized, places = features.resize_to_scales(image, boxes, self._network, self._settings)
        except images.UndecodableImage as error:
            return Ready(image_id, digest, table, str(error))
        distinct = features.distinct_cells(resized, places, boxes, self._network)
        return Ready(image_id, digest, table, None, resized, places, distinct)


def _require_size(image: np.ndarray, width: int, height: int) -> None:
    held = (image.shape[1], image.shape[0])
    if held != (width, height):
        text = "the file has {}×{} pixels, its annotation says {}×{}"
        raise images.UndecodableImage(text.format(*held, width, height))
