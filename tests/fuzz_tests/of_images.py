"""Image files, and windows of others."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import Image

from pipeline import images
from pipeline.windows import read_mat, read_parquet
from tests.fuzz_tests.target import Target

MOST_PIXELS = 1_000_000


def image_seeds() -> Iterator[bytes]:
    """Yield a small image of every format and of most of their kinds."""
    ramp = np.arange(9 * 7 * 4, dtype=np.uint8).reshape(7, 9, 4)
    rgba, rgb, grey = (Image.fromarray(ramp[:, :, :n].squeeze()) for n in (4, 3, 1))
    deep = Image.fromarray(np.arange(63, dtype=np.uint16).reshape(7, 9) * 999)
    palette, cmyk = rgb.quantize(5), rgb.convert("CMYK")
    kinds = [(image, name) for image in (rgb, grey) for name in ("PNG", "JPEG", "BMP", "PPM")]
    kinds += [(rgba, "PNG"), (rgba, "WEBP"), (rgb, "WEBP"), (deep, "PNG"), (deep, "TIFF")]
    kinds += [(palette, "PNG"), (palette, "GIF"), (cmyk, "JPEG"), (cmyk, "TIFF"), (rgb, "TIFF")]
    kinds.append((rgb.convert("1"), "TIFF"))
    for image, name in kinds:
        file = io.BytesIO()
        image.save(file, name)
        yield file.getvalue()
    for image, name, options in (
        (rgb, "JPEG", {"progressive": True}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (palette, "GIF", {"save_all": True, "append_images": [palette], "transparency": 1}),
        (rgba, "WEBP", {"save_all": True, "append_images": [rgba], "lossless": True}),
        (palette, "PNG", {"transparency": b"\0\x80", "save_all": True}),
    ):
        file = io.BytesIO()
        image.save(file, name, **options)
        yield file.getvalue()


def decode(data: bytes, folder: Path) -> None:
    """Pixels have the size that the header says, and no header takes more than it may."""
    try:
        (folder / "image").write_bytes(data)
        size = images.read_size(folder / "image")
    except images.UndecodableImage:
        size = None
    pixels = images.decode(data, max_pixels=MOST_PIXELS)
    assert pixels.dtype == np.uint8
    assert (pixels.shape[1], pixels.shape[0]) == size
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS


def _windows(count: int) -> dict[str, pa.Array]:
    corners = np.arange(count, dtype=np.float32)
    columns = {name: pa.array(corners + k) for k, name in enumerate(("x_min", "y_min"))}
    return columns | {"x_max": pa.array(corners + 9), "y_max": pa.array(corners + 9)}


def window_seeds() -> Iterator[bytes]:
    """Yield tables of windows as different programs write them."""
    ids = pa.array(["a", "b", "a"])
    for column in (ids, ids.dictionary_encode(), ids.cast(pa.large_string())):
        for options in ({}, {"compression": "NONE", "use_dictionary": False}, {"version": "1.0"}):
            file = io.BytesIO()
            table = pa.table({"image_id": column, **_windows(3), "window_id": [2, 0, 1]})
            pq.write_table(table, file, **options)
            yield file.getvalue()


def windows_of_parquet(data: bytes, folder: Path) -> None:
    """Windows that are taken can be: finite, not empty, and from 0 on."""
    (folder / "windows.parquet").write_bytes(data)
    require_windows(read_parquet(folder / "windows.parquet", ["a", "b"]))
    require_windows(read_parquet(folder / "windows.parquet"))


def mat_seeds() -> Iterator[bytes]:
    """Yield MATLAB files of one and of two images."""
    cells = np.empty((1, 2), object)
    cells[0] = [np.array([[3, 8, 5, 12]], np.uint16), np.array([[1, 1, 4, 4]], np.float64)]
    names = np.empty((1, 2), object)
    names[0] = ["a", "b"]
    for content in ({"boxes": cells[0, 0]}, {"boxes": cells, "images": names}):
        for packed in (False, True):
            file = io.BytesIO()
            scipy.io.savemat(file, content, do_compression=packed)
            yield file.getvalue()


def windows_of_mat(data: bytes, folder: Path) -> None:
    """As those of Parquet."""
    (folder / "a.mat").write_bytes(data)
    require_windows(read_mat(folder / "a.mat", "rcnn"))


def require_windows(found: dict[str, np.ndarray]) -> None:
    """Check windows by the rule of SPEC §1."""
    for boxes in found.values():
        assert boxes.dtype == np.float32
        assert boxes.ndim == 2
        assert boxes.shape[1] == 4
        assert np.isfinite(boxes).all()
        assert (boxes >= 0).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()


TARGETS = (
    Target("image", image_seeds, decode, (b"IHDR", b"IDAT", b"tRNS", b"RIFF", b"WEBP", b"II*\0")),
    Target("windows-parquet", window_seeds, windows_of_parquet, (b"PAR1", b"ARROW:schema")),
    Target("windows-mat", mat_seeds, windows_of_mat, (b"boxes", b"images"), True),
)
