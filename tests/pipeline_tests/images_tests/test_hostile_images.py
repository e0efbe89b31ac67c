"""Small files that would take hours or all memory, and what is no file at all."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import config, images
from pipeline.windows.selective_search import _shrink
from pipeline.windows.table import propose
from tests.hostile import png_of


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG that goes through all its pixels again and again, with nothing to add."""
    file = io.BytesIO()
    Image.new("L", (900, 900)).save(file, "JPEG", progressive=True)
    head = file.getvalue()[: file.getvalue().index(b"\xff\xda")]
    table = b"\xff\xc4\x00\x14\x10" + bytes([1] + [0] * 15) + b"\0"
    first = b"\xff\xda\0\x08\1\1\0\0\0\0"
    return head + table + first + b"\xff\xda\0\x08\1\1\0\1\x3f\1" * count + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            png_of(60_000, 60_000),
            "too many pixels by its header: 3,600,000,000; features.max_p",
        ),
        (png_of(10_000, 10_000), "10000x10000 is 100,000,000 pixels, more than the 80,000,000"),
        (jpeg_of_scans(1000), "more than 100 scans; programs write about ten"),
        (b"\xff\xd8\xff\xd9" + jpeg_of_scans(1000), "more than 100 scans"),
        (b"P3\n3 2\n255\n" + b"#\n" * 200_000 + b"1 " * 18, "a PPM of numbers in words"),
    ],
)
def test_what_would_take_hours_is_refused_at_once(data: bytes, says: str) -> None:
    with pytest.raises(images.UndecodableImage, match=says):
        images.decode(data)


def test_a_progressive_photograph_has_few_scans() -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG", progressive=True, quality=95)
    assert images.decode(file.getvalue()).shape == (40, 50, 3)


def test_what_a_phone_puts_behind_a_photograph_is_no_scan() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "JPEG", exif=b"Exif\0\0" + b"\xff\xda" * 200)
    film = b"\xff\xda\x00\x02" * 40_000
    assert images.decode(file.getvalue() + film).shape == (30, 40, 3)


def test_a_jpeg_of_very_many_segments() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "JPEG")
    data = file.getvalue()
    with pytest.raises(images.UndecodableImage, match="more than 10,000 segments"):
        images.decode(data[:2] + b"\xff\xe1\x00\x02" * 10_001 + data[2:])


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make) -> None:
    make(tmp_path / "x.jpg")
    for read in (images.read, images.read_size, images.load):
        with pytest.raises(images.UndecodableImage, match="no file, but a folder, a pipe"):
            read(tmp_path / "x.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with pytest.raises(images.UndecodableImage, match="or a device"):
        images.read(tmp_path / "zero.jpg")


def test_strips_are_segmented_at_a_size_that_ends() -> None:
    assert _shrink(np.zeros((20, 50_000, 3), np.uint8), None).shape == (1, 2000, 3)
    assert _shrink(np.zeros((9000, 1000, 3), np.uint8), None).shape == (2000, 222, 3)
    photograph = np.zeros((1000, 4000, 3), np.uint8)
    assert _shrink(photograph, None) is photograph
    # Narrower than the narrowest window: none could be found.
    assert propose(np.zeros((50_000, 19, 3), np.uint8), config.Windows(), 0).shape == (0, 4)
