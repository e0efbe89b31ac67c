"""The first stage: a file's bytes to pixels at every scale, and the cells of its windows."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline import config, features, images, index, networks
from pipeline.errors import InputError, UnreachableError
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
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    """The windows as the network sees them."""

    @cached_property
    def sizes(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Scale and size of the pixels: images that agree can run through the network together."""
        return tuple((one.scale_px, tuple(one.pixels.shape)) for one in self.resized)

    def without_pixels(self) -> "Ready":
        """Return what is needed once the network has seen the image."""
        return replace(self, resized=[replace(one, pixels=_NO_PIXELS) for one in self.resized])


class Decoder:
    """Reads the images of one shard; holds nothing but their windows, and is safe in threads.

    Small enough to send: of the network it needs sizes and preprocessing, and no weights.
    """

    def __init__(
        self,
        rows: Mapping[str, Mapping[str, Any]],
        windows: Mapping[str, pa.Table],
        network: networks.Network,
        settings: config.Features,
        held: Container[str] = (),
    ) -> None:
        """Take what a shard's images have in common.

        Args:
            rows: of `pipeline.index.IMAGES`, by image.
            windows: of `pipeline.windows.table.WINDOWS`, by image.
            network: `outline`'s is enough.
            settings: the recipe's `[features]`.
            held: images whose rows are known: they are read, and not decoded.
        """
        self._rows, self._windows, self._held = rows, windows, held
        self._network, self._settings = network, settings

    def __call__(self, image_id: str) -> Ready:
        """Read, decode and resize one image; what cannot be is quarantined with its reason.

        Raises:
            InputError: the file is not the one that the dataset was read from. Its windows and
                labels may belong to other pixels: the shard fails, and nothing is mixed.
            UnreachableError: it is gone, or its folder is not mounted here.
        """
        row, table = self._rows[image_id], self.windows(image_id)
        file = Path(row["file"])
        try:
            data = images.read(file)
        except OSError as error:
            # Other errors are the disk's, and pass: the shard fails.
            if not isinstance(error, FileNotFoundError) and index.file_state(file)[0] >= 0:
                raise
            if row["bytes"] >= 0:  # it was there, and may be there again, or for others
                raise _gone(image_id, file, row["bytes"]) from None
            return Ready(image_id, b"", table, f"there is no file {file}")
        except images.UndecodableImage as error:
            _require_unchanged(image_id, file, row)
            return Ready(image_id, b"", table, str(error))
        _require_unchanged(image_id, file, row)
        digest, boxes = sha256(data).digest(), box_array(table)
        if image_id in self._held:
            return Ready(image_id, digest, table)
        try:
            image = images.decode(data, max_pixels=self._settings.max_pixels)
            _require_size(image, row["width"], row["height"])
            image, boxes = features.as_seen(image, boxes, self._settings)
            made = features.prepare(image, boxes, self._network, self._settings)
        except images.UndecodableImage as error:
            return Ready(image_id, digest, table, str(error))
        return Ready(image_id, digest, table, None, *made, boxes)

    def windows(self, image_id: str) -> pa.Table:
        """Return the windows of one image."""
        return self._windows.get(image_id, _NO_WINDOWS)


def _require_unchanged(image_id: str, file: Path, row: Mapping[str, Any]) -> None:
    was, now = (row["bytes"], row["modified_ns"]), index.file_state(file)
    if now[0] < 0:
        raise _gone(image_id, file, was[0])
    if was != now:
        told = (f"{count} bytes of {_date(ns)}" for count, ns in (was, now))
        raise InputError(
            f"image {image_id} changed while the run was at work: {file} had {next(told)} and has "
            f"{next(told)}. Run the same command again: changed images are a new dataset, and get "
            "folders of their own. (Copies on other machines must keep the files' times.)"
        )


def _gone(image_id: str, file: Path, had_bytes: int) -> UnreachableError:
    return UnreachableError(
        f"image {image_id}: {file} is not there any more, or not seen by this machine; it had "
        f"{had_bytes} bytes when the dataset was read. Bring it back, or mount its folder, and "
        "run the same command again"
    )


def _date(modified_ns: int) -> str:
    return datetime.fromtimestamp(modified_ns / 1e9, UTC).isoformat(timespec="microseconds")


def _require_size(image: np.ndarray, width: int, height: int) -> None:
    held = (image.shape[1], image.shape[0])
    if not width:
        raise images.UndecodableImage("its header could not be read when the dataset was")
    if held != (width, height):
        text = "the file has {}×{} pixels, its annotation says {}×{}"
        raise images.UndecodableImage(text.format(*held, width, height))
