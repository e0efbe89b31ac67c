"""Selective search, OpenCV's "fast" mode, made reproducible and ranked usefully.

OpenCV orders its boxes by the C library's `rand()`, seeded by nobody, and puts small regions first.
Only the order is random: the set of boxes depends on the image alone (tested). So its order is
thrown away here, and the windows are ranked anew from a seed.
"""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

# OpenCV turns the image by 45 degrees: it takes the square of the longer side, in time and memory.
# One of 100,000 × 20 pixels would take hours. Such strips are segmented at a smaller size.
MOST_ASPECT, LONGEST_STRIP_PX = 4, 2000


def selective_search(
    image: UInt8[np.ndarray, "rows cols 3"],
    *,
    seed: int,
    min_side_px: int = 20,
    max_windows: int = 2000,
    working_side_px: int | None = None,
    base_k: int = 150,
) -> Float32[np.ndarray, "windows 4"]:
    """Propose windows around the regions of a hierarchical segmentation.

    Args:
        image: RGB pixels, 0..255.
        seed: Of the rank; which windows are found does not depend on it.
        min_side_px: Windows with a shorter side are dropped; pixels of `image`.
        max_windows: At most so many are kept, by rank.
        working_side_px: Segment the image at this shorter side if it is larger: faster, at some
            cost in recall of small objects. Windows are mapped back and rounded to whole pixels.
        base_k: Granularity of the finest of three segmentations (k, 2k, 3k): smaller gives more
            and smaller regions.

    Returns:
        Distinct SPEC §1 boxes, best rank first (see `rank`).

    Source: Uijlings et al., Selective Search for Object Recognition, 2013.
    """
    rows, cols = image.shape[:2]
    small = _shrink(image, working_side_px)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(small[:, :, ::-1]))  # OpenCV's colours are BGR
    search.switchToSelectiveSearchFast(base_k, base_k)
    found = np.asarray(search.process(), dtype=np.float64).reshape(-1, 4)
    corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
    corners *= np.tile([cols / small.shape[1], rows / small.shape[0]], 2)
    corners = np.clip(np.round(corners), 0, np.tile([cols, rows], 2))
    windows = np.unique(corners.astype(np.float32), axis=0)
    sides = windows[:, 2:] - windows[:, :2]
    windows = windows[sides.min(axis=1) >= max(min_side_px, 1)]
    return windows[rank(windows, seed)[:max_windows]]


def rank(windows: Float32[np.ndarray, "windows 4"], seed: int) -> np.ndarray:
    """Order windows from coarse to fine, shuffled.

    A window's key is its place in the order of descending area times a random number in [0, 1):
    the original method's own rank, with area for the place in the hierarchy, which OpenCV does not
    tell. Large windows tend to come early, but every prefix holds windows of all sizes.

    Args:
        windows: Distinct boxes; their order does not matter.
        seed: Of the random numbers.

    Returns:
        Indices into `windows`, best first.
    """
    canonical = np.lexsort(windows.T)
    width, height = (windows[canonical, 2:] - windows[canonical, :2]).T
    by_area = canonical[np.argsort(-width * height, kind="stable")]
    place = np.arange(1, len(windows) + 1)
    key = place * np.random.default_rng(seed).random(len(windows))
    return by_area[np.argsort(key, kind="stable")]


def _shrink(
    image: UInt8[np.ndarray, "rows cols 3"], working_side_px: int | None
) -> UInt8[np.ndarray, "new_rows new_cols 3"]:
    rows, cols = image.shape[:2]
    factor = 1.0 if working_side_px is None else min(1.0, working_side_px / min(rows, cols))
    if max(rows, cols) > MOST_ASPECT * min(rows, cols):
        factor = min(factor, LONGEST_STRIP_PX / max(rows, cols))
    if factor == 1.0:
        return image
    size = max(1, round(cols * factor)), max(1, round(rows * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
