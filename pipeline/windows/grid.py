"""Sliding windows over several sizes and aspect ratios: needs no pixels and no segmentation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64


def grid(
    width: int,
    height: int,
    *,
    sides_px: Sequence[float] | Sequence[int] = (32, 64, 128, 256, 512),
    aspect_ratios: Sequence[float] | Sequence[int] = (0.5, 1.0, 2.0),
    step: float | int = 0.25,
    min_side_px: int = 20,
) -> Float32[np.ndarray, "windows 4"]:
    """Cover an image evenly with windows, the whole image first, then from large to small.

    Neighbours of one shape are at most `step` of its side apart, and the outermost touch the
    image's edges. Shapes that do not fit into the image are left out.

    Args:
        width: Of the image, pixels.
        height: Of the image, pixels.
        sides_px: Square roots of the windows' areas.
        aspect_ratios: Widths divided by heights.
        step: Largest distance of neighbours, as a share of the window's side, above 0.
        min_side_px: Shapes with a shorter side are left out.

    Returns:
        Distinct SPEC §1 boxes in whole pixels.

    >>> grid(40, 30, sides_px=[20], aspect_ratios=[1], step=1.0).astype(int).tolist()
    [[0, 0, 40, 30], [0, 0, 20, 20], [20, 0, 40, 20], [0, 10, 20, 30], [20, 10, 40, 30]]
    """
    if step <= 0:
        raise ValueError(f"step is {step}, a share of the window's side that must be above 0")
    layers = [np.array([[0, 0, width, height]], dtype=np.float64)]
    for side_px in sorted(sides_px, reverse=True):
        for aspect_ratio in aspect_ratios:
            shape = round(side_px * aspect_ratio**0.5), round(side_px / aspect_ratio**0.5)
            fits = shape[0] <= width and shape[1] <= height
            if fits and min(shape) >= max(min_side_px, 1):
                layers.append(_layer((width, height), shape, step))
    windows = np.concatenate(layers).astype(np.float32)
    _, first = np.unique(windows, axis=0, return_index=True)
    return windows[np.sort(first)]


def _layer(
    image: tuple[int, int], window: tuple[int, int], step: float
) -> Float64[np.ndarray, "windows 4"]:
    lefts, tops = (_starts(image[axis], window[axis], step) for axis in (0, 1))
    y_min, x_min = (one.ravel() for one in np.meshgrid(tops, lefts, indexing="ij"))
    return np.stack([x_min, y_min, x_min + window[0], y_min + window[1]], axis=1)


def _starts(length: int, side: int, step: float | int) -> Float64[np.ndarray, " starts"]:
    room = length - side
    return np.round(np.linspace(0, room, int(np.ceil(room / (step * side))) + 1))
