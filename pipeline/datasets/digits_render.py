"""How a digit, and the clutter around it, becomes pixels: shared by scenes and training crops.

All randomness comes from the generator that is passed in, so equal seeds give equal bytes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_INK = 3.0  # of 16 grey levels: fainter pixels of a scanned digit are its blurred rim
_TINT = 30.0  # of a colour around its luma: contrast in hue alone is too hard for a small net
_EDGE = (0.40, 0.62)  # ink below the first is background, above the second full paint


@dataclass(frozen=True)
class Paint:
    """How one digit is painted.

    Attributes:
        contrast: Difference in luma from the mean of what lies beneath, 0..255.
        opacity: 0..1.
        angle_deg: Rotation.
        shear: Slant, horizontal by vertical.
    """

    contrast: float
    opacity: float
    angle_deg: float
    shear: float

    @classmethod
    def random(cls, rng: np.random.Generator, contrast: tuple[float, float]) -> "Paint":
        """Draw everything at random, the contrast uniformly within bounds."""
        return cls(
            contrast=rng.uniform(*contrast),
            opacity=rng.uniform(0.88, 1.0),
            angle_deg=rng.uniform(-9, 9),
            shear=rng.uniform(-0.18, 0.18),
        )


def ink(scan: Float32[np.ndarray, "8 8"]) -> Float32[np.ndarray, "rows cols"]:
    """Cut a scanned digit (0..16) to its ink and scale it to 0..1."""
    rows, cols = np.nonzero(scan > _INK)
    tight = scan[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    return np.asarray(tight / tight.max(), dtype=np.float32)


def mask(
    digit: Float32[np.ndarray, "ink_rows ink_cols"], width: int, height: int, paint: Paint
) -> Float32[np.ndarray, "rows cols"]:
    """Enlarge a digit smoothly; the result is cut to the painted pixels, 0 to 1.

    Rotation and slant make it a little larger or smaller than `width` x `height` pixels.
    """
    angle = np.deg2rad(paint.angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    # From pixels of the canvas, whose margin leaves room for the slant, to pixels of the scan.
    turn = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1, paint.shear], [0, 1]])
    cols, rows = round(width * 1.5), round(height * 1.5)
    matrix = np.diag([digit.shape[1] / width, digit.shape[0] / height]) @ turn
    middle = np.array([digit.shape[1] - 1, digit.shape[0] - 1]) / 2
    shift = middle - matrix @ (np.array([cols - 1, rows - 1]) / 2)
    large = cv2.warpAffine(
        digit,
        np.column_stack([matrix, shift]),
        (cols, rows),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    soft = np.clip((large - _EDGE[0]) / (_EDGE[1] - _EDGE[0]), 0, 1)
    painted_rows, painted_cols = (np.flatnonzero((soft > 0.5).any(axis=axis)) for axis in (1, 0))
    return soft[painted_rows[0] : painted_rows[-1] + 1, painted_cols[0] : painted_cols[-1] + 1]


def paint_over(
    canvas: UInt8[np.ndarray, "rows cols 3"],
    shape: Float32[np.ndarray, "mask_rows mask_cols"],
    x_min: int,
    y_min: int,
    paint: Paint,
    rng: np.random.Generator,
) -> None:
    """Blend a digit's mask into a canvas, in place; what lies outside the canvas is cut off."""
    left, top = max(-x_min, 0), max(-y_min, 0)
    shape = shape[top : max(canvas.shape[0] - y_min, 0), left : max(canvas.shape[1] - x_min, 0)]
    if shape.size == 0:
        return
    y, x = y_min + top, x_min + left
    beneath = canvas[y : y + shape.shape[0], x : x + shape.shape[1]]
    colour = _colour(np.array(cv2.mean(beneath)[:3]), paint.contrast, rng)
    weight = (shape * paint.opacity)[:, :, None]
    # Light from one side: the paint gets brighter across the digit.
    light = np.linspace(-1, 1, shape.shape[1], dtype=np.float32) * rng.uniform(-14, 14)
    mixed = beneath + weight * (colour + light[:, None] - beneath)
    beneath[:] = np.clip(mixed, 0, 255).astype(np.uint8)


def _colour(
    beneath: np.ndarray, contrast: float, rng: np.random.Generator
) -> Float32[np.ndarray, "3"]:
    """Choose a colour whose luma differs from the mean beneath by `contrast`."""
    luma = float(LUMA @ beneath)
    lighter = rng.random() < 1 - luma / 255
    if not 0 <= luma + (contrast if lighter else -contrast) <= 255:
        lighter = not lighter
    tint = rng.uniform(-_TINT, _TINT, 3).astype(np.float32)
    tint -= LUMA @ tint
    return np.clip(luma + (contrast if lighter else -contrast) + tint, 0, 255).astype(np.float32)


def clutter(rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "rows cols 3"]:
    """Render a background: noise at several scales, textured patches, and strokes."""
    canvas = _noise(rng, width, height)
    for _ in range(rng.integers(1, 4)):
        _texture(canvas, rng)
    for _ in range(rng.integers(3, 8)):
        _stroke(canvas, rng)
    return canvas


def grain(image: UInt8[np.ndarray, "... rows cols 3"], rng: np.random.Generator) -> np.ndarray:
    """Add a sensor's noise, uniform from -4 to 3 grey levels, to one image or many."""
    noise = np.frombuffer(rng.bytes(image.size), dtype=np.uint8).reshape(image.shape) >> 5
    return cv2.subtract(cv2.add(image, noise), np.full_like(image, 4))


def _noise(rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "rows cols 3"]:
    base = rng.uniform(50, 205, 3)
    canvas = np.tile(base.astype(np.float32), (height, width, 1))
    for cells, amplitude in ((3, 42), (8, 18), (22, 8), (60, 5)):
        grid = rng.normal(0, 1, (cells, cells, 1)) + 0.45 * rng.normal(0, 1, (cells, cells, 3))
        coarse = (amplitude * grid).astype(np.float32)
        canvas += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _texture(canvas: UInt8[np.ndarray, "rows cols 3"], rng: np.random.Generator) -> None:
    """Lay stripes, or two crossed sets of them, over a random polygon."""
    rows, cols = canvas.shape[:2]
    centre = rng.uniform(0, 1, 2) * (cols, rows)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 6))
    radii = rng.uniform(0.15, 0.5, (6, 1)) * min(rows, cols)
    corners = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    patch = np.zeros((rows, cols), np.uint8)
    cv2.fillPoly(patch, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    y, x = np.ogrid[:rows, :cols]
    waves = np.zeros((rows, cols), np.float32)
    for _ in range(rng.integers(1, 3)):
        angle, length = rng.uniform(0, np.pi), rng.uniform(6, 30)
        phase = 2 * np.pi / length * np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
        waves += np.sin(x.astype(np.float32) * phase[0] + y.astype(np.float32) * phase[1])
    tint = rng.uniform(-45, 45, 3).astype(np.float32) + rng.uniform(8, 26) * waves[:, :, None]
    mixed = canvas + (patch[:, :, None] / np.float32(255)) * tint
    canvas[:] = np.clip(mixed, 0, 255).astype(np.uint8)


def _stroke(canvas: UInt8[np.ndarray, "rows cols 3"], rng: np.random.Generator) -> None:
    """Draw a curve of one bend, as thick as a small digit's pen at most; never a closed one."""
    rows, cols = canvas.shape[:2]
    knots = rng.uniform(-0.1, 1.1, (3, 2)) * (cols, rows)
    along = np.linspace(0, 1, 14)[:, None]
    curve = (1 - along) ** 2 * knots[0] + 2 * along * (1 - along) * knots[1] + along**2 * knots[2]
    colour = canvas[rng.integers(rows), rng.integers(cols)] + rng.uniform(-90, 90, 3)
    pen = tuple(float(value) for value in np.clip(colour, 0, 255))
    thickness = int(rng.integers(1, 6))
    cv2.polylines(canvas, [curve.astype(np.int32)], False, pen, thickness, cv2.LINE_AA)
