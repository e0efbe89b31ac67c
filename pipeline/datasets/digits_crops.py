"""Crops of digits to pre-train a network on, painted by the code that paints the scenes."""

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8

from pipeline.datasets import digits_render as render
from pipeline.datasets.digits_scans import scans, split_digits
from pipeline.datasets.digits_scenes import random_size

BACKGROUND = 10  # the class after the ten digits
_CROPS_PER_CLUTTER = 40  # a background costs as much as ten crops, so many share one
_CLUTTER_PX = 320
_SHARE = (0.7, 1.05)  # of the crop: a window that holds less of it is no match at IoU 0.5
_REGION_PX = (32.0, 240.0)  # how much of a background a crop shows before it is resized
_CONTRAST = (80.0, 160.0)  # as in the scenes, and somewhat fainter


def pretraining_crops(
    seed: int, count: int, side_px: int, *, background_share: float = 0.15
) -> tuple[UInt8[np.ndarray, "crops side side 3"], Int64[np.ndarray, " crops"]]:
    """Paint square crops around the digits of the pre-training pool.

    A digit takes 70 to 105% of the crop, off centre, so that some are cut a little; others may
    look in from the side. Background is pure clutter, or pieces of digits too small or too large
    to count as found.

    Args:
        seed: Of everything; the pools are those of the data set with the same seed.
        count: How many crops.
        side_px: Their side.
        background_share: Share of crops without a digit.

    Returns:
        RGB crops, and their classes: 0..9, or `BACKGROUND`.
    """
    rng = np.random.default_rng([seed, 3])
    images, labels = scans()
    members = split_digits(seed)["pretrain"]
    inks = [render.ink(images[index]) for index in members]
    crops = np.empty((count, side_px, side_px, 3), dtype=np.uint8)
    chosen = rng.integers(len(members), size=count)
    wanted = np.where(rng.random(count) < background_share, BACKGROUND, labels[members[chosen]])
    backdrop = np.zeros(0, dtype=np.uint8)
    for number in range(count):
        if number % _CROPS_PER_CLUTTER == 0:
            backdrop = render.clutter(rng, _CLUTTER_PX, _CLUTTER_PX)
        crop = _region(backdrop, side_px, rng)
        if rng.random() < 0.25:
            _paint_piece(crop, inks[rng.integers(len(inks))], rng)
        if wanted[number] != BACKGROUND:
            _paint_whole(crop, inks[chosen[number]], rng)
        elif rng.random() < 0.5:
            _paint_piece(crop, inks[chosen[number]], rng)
        crops[number] = crop
    return render.grain(crops.reshape(-1, side_px, 3), rng).reshape(crops.shape), wanted


def _region(
    backdrop: UInt8[np.ndarray, "rows cols 3"], side_px: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "side side 3"]:
    size = int(np.exp(rng.uniform(*np.log(_REGION_PX))))
    x, y = rng.integers(_CLUTTER_PX - size + 1, size=2)
    region = backdrop[y : y + size, x : x + size]
    resized = cv2.resize(region, (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _paint_whole(
    crop: UInt8[np.ndarray, "side side 3"],
    digit: Float32[np.ndarray, "ink_rows ink_cols"],
    rng: np.random.Generator,
) -> None:
    """Paint a digit of which at least about nine tenths are inside, along each axis."""
    side_px = len(crop)
    paint = render.Paint.random(rng, _CONTRAST)
    width, height = random_size(digit, side_px, rng)
    factor = rng.uniform(*_SHARE) * side_px / max(width, height)
    shape = render.mask(digit, max(2, round(width * factor)), max(2, round(height * factor)), paint)
    corner: list[int] = []
    for length in (shape.shape[1], shape.shape[0]):
        out = round(0.1 * length)
        low, high = sorted((-out, side_px - length + out))
        corner.append(int(rng.integers(low, high + 1)))
    render.paint_over(crop, shape, corner[0], corner[1], paint, rng)


def _paint_piece(
    crop: UInt8[np.ndarray, "side side 3"],
    digit: Float32[np.ndarray, "ink_rows ink_cols"],
    rng: np.random.Generator,
) -> None:
    """Paint a digit that reaches in from one side by less than half of its own length."""
    side_px = len(crop)
    paint = render.Paint.random(rng, _CONTRAST)
    width, height = random_size(digit, side_px * rng.uniform(0.4, 1.8), rng)
    shape = render.mask(digit, max(2, width), max(2, height), paint)
    lengths = shape.shape[1], shape.shape[0]
    corner = [int(rng.integers(-length // 2, side_px - length // 2 + 1)) for length in lengths]
    axis = int(rng.integers(2))
    shown = round(lengths[axis] * rng.uniform(0.1, 0.42))
    corner[axis] = shown - lengths[axis] if rng.random() < 0.5 else side_px - shown
    render.paint_over(crop, shape, corner[0], corner[1], paint, rng)
