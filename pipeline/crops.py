"""Where square crops of an image lie, for training and for testing (SPEC §10)."""

import numpy as np


def five_places(rows: int, cols: int, side_px: int) -> tuple[tuple[int, int], ...]:
    """Return top and left of the centre crop, then of those in the corners of the entire image.

    The corners are the image's own, not those of its central square (paper §3.1, note 1). A centre
    that is no whole pixel is half a pixel up and left.

    >>> five_places(4, 7, 2)
    ((1, 2), (0, 0), (0, 5), (2, 0), (2, 5))
    """
    bottom, right = rows - side_px, cols - side_px
    return ((bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right))


def random_place(
    random: np.random.Generator, rows: int, cols: int, side_px: int, among: str
) -> tuple[int, int]:
    """Return top and left of a crop: one of the `five` places, or `anywhere`, each as likely."""
    if among == "five":
        return five_places(rows, cols, side_px)[random.integers(5)]
    top, left = random.integers([rows - side_px + 1, cols - side_px + 1])
    return int(top), int(left)
