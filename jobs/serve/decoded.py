"""Images as pixels, of which the last ones are kept: a page of hits comes from few of them."""

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipeline import machine
from pipeline.report import crops

KEPT_BYTES = 512 << 20  # 24 photographs of 7 megapixels, or 1,000 small ones


class Decoded:
    """Images as pixels. Safe in threads; no more are decoded at once than there are CPUs.

    Args:
        kept_bytes: of pixels, at most, between two requests.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes, self._held_bytes = kept_bytes, 0
        self._held: OrderedDict[Path, UInt8[np.ndarray, "rows cols 3"]] = OrderedDict()
        self._lock, self._turns = threading.Lock(), threading.Semaphore(machine.cpus())

    def pixels(self, file: Path) -> UInt8[np.ndarray, "rows cols 3"]:
        """Return the pixels of an image.

        Raises:
            InputError: the file is not there, or no image.
        """
        held = self._known(file)
        if held is not None:
            return held
        with self._turns:
            held = self._known(file)  # of who had the turn before
            return self._keep(file, crops.read(file)) if held is None else held

    def _known(self, file: Path) -> UInt8[np.ndarray, "rows cols 3"] | None:
        with self._lock:
            if file in self._held:
                self._held.move_to_end(file)
            return self._held.get(file)

    def _keep(
        self, file: Path, pixels: UInt8[np.ndarray, "rows cols 3"]
    ) -> UInt8[np.ndarray, "rows cols 3"]:
        with self._lock:
            before = self._held.pop(file, None)  # two may have decoded it at the same time
            self._held_bytes += pixels.nbytes - (0 if before is None else before.nbytes)
            self._held[file] = pixels
            while self._held_bytes > self._kept_bytes:
                _, oldest = self._held.popitem(last=False)
                self._held_bytes -= oldest.nbytes
        return pixels
