"""Image files to arrays: decode with a defined rule for every pixel format, and resize.

Pixels are taken as stored: EXIF orientation is ignored, because annotations are drawn on the raw
pixels (SPEC §2). What cannot be decoded completely raises, so that a caller can quarantine it.
"""

import contextlib
import io
import math
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Num, UInt8
from PIL import Image

from pipeline.apart.trial import is_fatal
from pipeline.errors import InputError
from pipeline.plain_files import NO_FILE, NoPlainFileError, read_plain
from pipeline.slow_images import takes_hours

# Named one by one: Pillow would also try EPS, which starts Ghostscript on a file from outside.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# Names of files that are looked at; what a file holds is told by its content.
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}
MAX_PIXELS = 80_000_000  # just below Pillow's own warning at 89 million
MAX_FILE_BYTES = 1 << 30  # 350 million pixels without compression: what is larger is no photograph
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_PAPER = (255, 255, 255, 255)  # transparent pixels are shown on white

# What Pillow's readers are known to raise on damaged files; anything else is a defect of ours.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Python's warning filters belong to the process, so two threads must not swap them at a time.
_warning_filters = threading.Lock()


class UndecodableImage(InputError):  # noqa: N818 -- a fact about the image, not a mishap
    """An image file that cannot be turned into pixels; the message is the reason."""


def read(path: Path | str) -> bytes:
    """Read an image file: never more than `MAX_FILE_BYTES`, and never what does not end.

    Raises:
        UndecodableImage: It is a folder, a pipe or a device, or larger.
        OSError: As the system says: it is not there, or may not be read.
    """
    try:
        return read_plain(path, MAX_FILE_BYTES)
    except NoPlainFileError as error:
        raise UndecodableImage(str(error)) from None


def load(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "rows cols 3"]:
    """Read an image file's pixels; see `read` and `decode`."""
    return decode(read(path), max_pixels=max_pixels)


def loader(
    files: Mapping[str, Path], max_pixels: int = MAX_PIXELS
) -> Callable[[Hashable], UInt8[np.ndarray, "rows cols 3"]]:
    """Return what loads the image of an id; it raises what `load` does."""
    return lambda image_id: load(files[str(image_id)], max_pixels=max_pixels)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "rows cols 3"]:
    """Turn the bytes of an image file into RGB pixels.

    Grey is repeated in three channels; palettes are looked up; CMYK is converted; transparency
    (an alpha channel or a transparent colour) is composited over white; of 16-bit samples the
    high byte is taken; of an animation the first frame. One kind of damage goes unseen: a JPEG
    whose missing end was filled with other bytes, because the decoder itself reports nothing.

    Args:
        data: The file's content, in one of `FORMATS`.
        max_pixels: Larger images are refused from the header alone, before any pixel is decoded.

    Returns:
        RGB pixels, 0..255.

    Raises:
        UndecodableImage: Not an image, truncated or damaged, too large, or of a pixel format
            without a defined range (floating point, 32-bit integers).

    >>> pixel = io.BytesIO(); Image.new("L", (2, 1), 7).save(pixel, "PNG")
    >>> decode(pixel.getvalue()).tolist()
    [[[7, 7, 7], [7, 7, 7]]]
    """
    if reason := is_fatal(data, max_pixels):
        raise UndecodableImage(reason)
    image = _open(io.BytesIO(data))
    if reason := takes_hours(image.format or "", data):
        raise UndecodableImage(reason)
    width, height = image.size
    if width * height > max_pixels:
        raise UndecodableImage(
            f"{width}x{height} is {width * height:,} pixels, more than the {max_pixels:,} allowed: "
            "shrink the image or raise max_pixels"
        )
    try:
        # Only the TIFF reader warns while it decodes; the others run in parallel threads.
        with _quiet() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        return _to_rgb(image)
    except UndecodableImage:
        raise
    except _DAMAGE as damage:
        raise UndecodableImage(f"damaged {image.format} file: {damage}") from damage


def read_size(path: Path) -> tuple[int, int]:
    """Read (width, height) in pixels from an image file's header, without decoding it.

    Raises:
        UndecodableImage: Not an image in one of `FORMATS`, or no file at all.
        OSError: As the system says.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UndecodableImage(NO_FILE)
    with path.open("rb") as file:
        return _open(file).size


def resize(
    image: UInt8[np.ndarray, "rows cols 3"], short_side_px: int, max_side_px: int | None = None
) -> tuple[Float32[np.ndarray, "new_rows new_cols 3"], tuple[float, float]]:
    """Resize so that the shorter side is `short_side_px`, bilinear without antialiasing (SPEC §2).

    Args:
        image: Pixels.
        short_side_px: The shorter side afterwards.
        max_side_px: Upper clamp of the longer side; the shorter one then gets smaller instead.

    Returns:
        The pixels, still 0..255, and the true factors (x, y): new by old length of each axis.

    >>> pixels, factors = resize(np.zeros((200, 301, 3), np.uint8), 100)
    >>> pixels.shape, factors == (150 / 301, 0.5)
    ((100, 150, 3), True)
    """
    rows, cols = image.shape[:2]
    new_cols, new_rows = resized_size(cols, rows, short_side_px, max_side_px)
    pixels = np.asarray(image, dtype=np.float32)
    if (new_rows, new_cols) != (rows, cols):
        pixels = cv2.resize(pixels, (new_cols, new_rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(pixels, dtype=np.float32), (new_cols / cols, new_rows / rows)


def resized_size(
    width: int, height: int, short_side_px: int, max_side_px: int | None = None
) -> tuple[int, int]:
    """Return the (width, height) that `resize` gives an image, to plan without pixels.

    >>> resized_size(500, 375, 480), resized_size(500, 375, 480, max_side_px=600)
    ((640, 480), (600, 450))
    """
    short, long = min(width, height), max(width, height)
    new_short, new_long = short_side_px, round(long * short_side_px / short)
    if max_side_px is not None and new_long > max_side_px:
        new_short, new_long = max(1, round(short * max_side_px / long)), max_side_px
    return (new_long, new_short) if width > height else (new_short, new_long)


def warp(
    image: UInt8[np.ndarray, "rows cols 3"] | Float32[np.ndarray, "rows cols 3"],
    window: Sequence[float | int] | Num[np.ndarray, " 4"],
    side_px: int = 227,
    context_px: int = 16,
    *,
    fill: tuple[float, float, float],
) -> Float32[np.ndarray, "side side 3"]:
    """Warp a window and some of its surroundings to a square, as R-CNN does (SPEC §10).

    The window is enlarged about its centre by `side_px / (side_px - 2 * context_px)`, 227/195, its
    edges are rounded to whole pixels, and its shape is not kept. What of it lies on the image is
    resized, bilinear without antialiasing, to its proportional place; the rest is `fill`.

    Args:
        image: RGB, 0..255.
        window: SPEC §1 box in the image's pixels.
        side_px: Of the result.
        context_px: Of the result's border that shows what surrounds the window.
        fill: RGB, 0..255: the colour that the network's preprocessing makes zero.

    Returns:
        RGB, 0..255.

    Raises:
        ValueError: The window is empty or does not touch the image, or no pixel is left between
            borders of `context_px`.

    Source: Girshick et al., "Rich feature hierarchies" (2014), appendix A. Its code counts pixels
    inclusively behind the enlargement too, and so enlarges by one pixel more.

    >>> warp(np.full((9, 9, 3), 50, np.uint8), (0, 0, 4, 4), 6, 1, fill=(7.0,) * 3)[:2, :3, 0]
    array([[ 7.,  7.,  7.],
           [ 7., 50., 50.]], dtype=float32)
    """
    inside = side_px - 2 * context_px
    if inside < 1:
        raise ValueError(f"{side_px} px leave no pixel between borders of {context_px} px")
    x_min, y_min, x_max, y_max = (float(edge) for edge in window)
    across = _warped_axis(x_min, x_max, image.shape[1], side_px, side_px / inside)
    down = _warped_axis(y_min, y_max, image.shape[0], side_px, side_px / inside)
    part = np.asarray(image[down[0], across[0]], dtype=np.float32)
    size = (across[1].stop - across[1].start, down[1].stop - down[1].start)
    resized = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    if size == (side_px, side_px):
        return resized
    warped = np.full((side_px, side_px, 3), fill, np.float32)
    warped[down[1], across[1]] = resized
    return warped


def _warped_axis(
    low: float, high: float, length: int, side_px: int, scale: float
) -> tuple[slice, slice]:
    """Return which pixels of an axis are taken, and where in the result they go."""
    if not (low < high and high > 0 and low < length):
        raise ValueError(f"the window's side from {low:g} to {high:g} is not on 0 to {length}")
    centre, half = (low + high) / 2, (high - low) / 2 * scale
    # rounding must leave a pixel, and one that is on the image
    first = min(math.floor(centre - half + 0.5), length - 1)
    last = max(math.floor(centre + half + 0.5), first + 1, 1)
    factor = side_px / (last - first)
    taken = slice(max(first, 0), min(last, length))
    start = min(round((taken.start - first) * factor), side_px - 1)
    wanted = max(1, round((taken.stop - taken.start) * factor))
    return taken, slice(start, min(start + wanted, side_px))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata does not concern the pixels
        yield


def _open(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    try:
        with _quiet():
            image = Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError as unknown:
        raise UndecodableImage(f"not an image in {', '.join(FORMATS)}") from unknown
    except Image.DecompressionBombError as bomb:  # twice as many as Pillow warns of
        count = re.search(r"\d+", str(bomb))
        said = f"{int(count[0]):,}" if count else "hundreds of millions"
        raise UndecodableImage(
            f"too many pixels by its header: {said}; features.max_pixels is the most, and may be "
            f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
        ) from bomb
    except _DAMAGE as damage:
        raise UndecodableImage(f"damaged header: {damage}") from damage
    if min(image.size) < 1:
        raise UndecodableImage(f"the header says {image.width}x{image.height} pixels")
    return image


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "rows cols 3"]:
    if image.mode == "F":
        raise UndecodableImage("floating-point pixels have no defined range: store 8 or 16 bits")
    if image.mode in _SIXTEEN_BIT:
        return np.repeat(_high_byte(np.asarray(image))[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _PAPER), image)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _high_byte(samples: np.ndarray) -> UInt8[np.ndarray, "rows cols"]:
    if samples.min() < 0 or samples.max() > 65535:
        raise UndecodableImage(
            f"samples from {samples.min()} to {samples.max()} are outside 16 bits: store 8 or 16"
        )
    return (samples // 256).astype(np.uint8)
