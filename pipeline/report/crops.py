"""Windows and whole images as small JPEGs, for pages and sheets."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from pipeline import images
from pipeline.errors import InputError

CONTEXT = 0.12  # of a window's longer side, shown around it: what it is part of helps to judge it
QUALITY = 88  # of 100
FRAME = (255, 196, 0)  # RGB, around the window


def crop(
    pixels: UInt8[np.ndarray, "rows cols 3"],
    box: Float[np.ndarray, " 4"] | None,
    side_px: int,
    context: float = CONTEXT,
) -> UInt8[np.ndarray, "new_rows new_cols 3"]:
    """Return a window with some of what surrounds it, or the whole image, no larger than a square.

    Args:
        pixels: RGB.
        box: SPEC §1 box in the image's pixels; None: the whole image.
        side_px: longer side of the result; smaller windows are enlarged.
        context: share of the window's longer side that is shown on each side of it. The window is
            framed where there is some.

    Raises:
        InputError: the window has no pixel.
    """
    rows, cols = pixels.shape[:2]
    box = np.array([0, 0, cols, rows]) if box is None else np.asarray(box, np.float64)
    inside = np.clip(box, 0, [cols, rows, cols, rows])
    if not (inside[:2] < inside[2:]).all():
        raise InputError(
            f"the box {box.tolist()} is empty or not on the image, {cols}×{rows} pixels"
        )
    margin = context * max(box[2] - box[0], box[3] - box[1])
    x_min, y_min = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    x_max, y_max = np.minimum(np.ceil(box[2:] + margin), (cols, rows)).astype(int)
    part = pixels[y_min : max(y_max, y_min + 1), x_min : max(x_max, x_min + 1)]
    factor = side_px / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = np.ascontiguousarray(cv2.resize(part, size, interpolation=how), np.uint8)
    if context:
        _frame(small, (box - [x_min, y_min, x_min, y_min]) * factor)
    return small


def _frame(pixels: UInt8[np.ndarray, "rows cols 3"], box: Float[np.ndarray, " 4"]) -> None:
    corners: Int[np.ndarray, " 4"] = np.round(box).astype(int)
    first, last = tuple(corners[:2].tolist()), tuple((corners[2:] - 1).tolist())
    cv2.rectangle(pixels, first, last, (20, 20, 24), 3)
    cv2.rectangle(pixels, first, last, FRAME, 1)


def jpeg(pixels: UInt8[np.ndarray, "rows cols 3"]) -> bytes:
    """Return RGB pixels as a JPEG file."""
    done, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise InputError(f"a picture of {pixels.shape[1]}×{pixels.shape[0]} pixels made no JPEG")
    return data.tobytes()


def read(file: Path) -> UInt8[np.ndarray, "rows cols 3"]:
    """Return an image's pixels.

    Raises:
        InputError: the file is not there, or no image.
    """
    try:
        return images.load(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except images.UndecodableImage as error:
        raise InputError(f"{file}: {error}") from None


def part(file: Path, box: Sequence[float]) -> UInt8[np.ndarray, "rows cols 3"] | None:
    """Return the pixels of a window, or of a whole image where the box is empty.

    None: the file is gone, or no image any more.
    """
    try:
        pixels = read(file)
    except InputError:
        return None
    x_min, y_min, x_max, y_max = box or (0, 0, pixels.shape[1], pixels.shape[0])
    return pixels[int(y_min) : math.ceil(y_max), int(x_min) : math.ceil(x_max)]
