"""Scenes of zero to four digits, of all sizes, over clutter, overlapping within bounds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, UInt8

from pipeline.datasets import digits_render as render
from pipeline.datasets.digits_scans import DIGIT_CLASSES, POOLS, Pool, scans, split_digits
from pipeline.datasets.records import Object

_DIGITS_PER_SCENE = (0.06, 0.24, 0.30, 0.25, 0.15)  # chances of 0, 1, 2, 3, 4
_SCENE_PX = (200, 341)
_HEIGHT_PX = (28.0, 150.0)
_THINNEST_PX = 22  # windows below 20 px are dropped, so no digit may be as thin as that
_CONTRAST, _FAINT_CONTRAST = (85.0, 160.0), (14.0, 24.0)
_FAINT_SHARE = 0.05
_VISIBLE = (0.55, 0.8)  # of a digit's ink: never below the first, difficult below the second


@dataclass(frozen=True)
class Scene:
    """A scene and what is in it.

    Attributes:
        image: RGB.
        objects: With boxes tight on the ink, also where another digit covers it.
        digits: Index of each object's scan among the 1,797.
    """

    image: UInt8[np.ndarray, "rows cols 3"]
    objects: tuple[Object, ...]
    digits: tuple[int, ...]


def scene(seed: int, pool: Pool, number: int) -> Scene:
    """Render one scene.

    Args:
        seed: Of the data set.
        pool: Which digits to use.
        number: Of the scene in its set; each has random numbers of its own.
    """
    rng = np.random.default_rng([seed, POOLS.index(pool), number])
    images, labels = scans()
    members = split_digits(seed)[pool]
    width, height = (int(side) for side in rng.integers(*_SCENE_PX, 2))
    canvas = render.clutter(rng, width, height)
    owner = np.full((height, width), -1, dtype=np.int8)  # which digit each pixel's ink is of
    areas: list[int] = []
    found: list[tuple[int, tuple[float, float, float, float], bool]] = []
    for _ in range(int(rng.choice(5, p=_DIGITS_PER_SCENE))):
        digit = int(rng.choice(members))
        faint = bool(rng.random() < _FAINT_SHARE)
        paint = render.Paint.random(rng, _FAINT_CONTRAST if faint else _CONTRAST)
        shape = _random_shape(render.ink(images[digit]), width, height, paint, rng)
        place = _find_place(owner, areas, shape, rng)
        if place is None:
            continue
        x, y = place
        render.paint_over(canvas, shape, x, y, paint, rng)
        owner[y : y + shape.shape[0], x : x + shape.shape[1]][shape > 0.5] = len(areas)
        areas.append(int((shape > 0.5).sum()))
        box = (float(x), float(y), float(x + shape.shape[1]), float(y + shape.shape[0]))
        found.append((digit, box, faint))
    visible = [float((owner == number).sum() / area) for number, area in enumerate(areas)]
    objects = tuple(
        Object(DIGIT_CLASSES[labels[digit]], box, difficult=faint or share < _VISIBLE[1])
        for (digit, box, faint), share in zip(found, visible, strict=True)
    )
    return Scene(render.grain(canvas, rng), objects, tuple(digit for digit, _, _ in found))


def random_size(
    digit: Float32[np.ndarray, "ink_rows ink_cols"],
    height_px: float | int,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Stretch a digit at random around its own aspect ratio; return (width, height) in pixels."""
    aspect = digit.shape[1] / digit.shape[0] * rng.uniform(0.75, 1.35)
    width = height_px * float(np.clip(aspect, 0.35, 1.3))
    return max(1, round(width)), max(1, round(height_px))


def _random_shape(
    digit: Float32[np.ndarray, "ink_rows ink_cols"],
    width: int,
    height: int,
    paint: render.Paint,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "rows cols"]:
    """Enlarge a digit to a random size, uniform in octaves, that fits into the scene."""
    low, high = np.log(_HEIGHT_PX)
    size = np.array(random_size(digit, float(np.exp(rng.uniform(low, high))), rng), dtype=float)
    shape = render.mask(digit, round(size[0]), round(size[1]), paint)
    # Slanting changes the size, so it is measured, not foreseen. Too thin is worse than too large.
    while max(shape.shape[0] / height, shape.shape[1] / width) > 0.9:
        size *= 0.9
        shape = render.mask(digit, round(size[0]), round(size[1]), paint)
    while min(shape.shape) < _THINNEST_PX:
        size *= 1.1
        shape = render.mask(digit, round(size[0]), round(size[1]), paint)
    return shape


def _find_place(
    owner: Int[np.ndarray, "rows cols"],
    areas: list[int],
    shape: Float32[np.ndarray, "mask_rows mask_cols"],
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Find a corner (x, y) where no earlier digit would lose too much of its ink."""
    inked = shape > 0.5
    rows, cols = inked.shape
    for _ in range(20):
        x = int(rng.integers(owner.shape[1] - cols + 1))
        y = int(rng.integers(owner.shape[0] - rows + 1))
        after = owner.copy()
        after[y : y + rows, x : x + cols][inked] = -1
        left = [(after == number).sum() / area for number, area in enumerate(areas)]
        # The newcomer may not sit wholly on another's ink either: it could not be told apart.
        beneath = (owner[y : y + rows, x : x + cols][inked] >= 0).mean()
        if min(left, default=1.0) >= _VISIBLE[0] and beneath <= 1 - _VISIBLE[0]:
            return x, y
    return None
