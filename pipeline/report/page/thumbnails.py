"""Parts of images, and whole ones, small: what a page shows of what was chosen for it."""

from base64 import b64encode
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline.images import UndecodableImage
from pipeline.report import crops
from pipeline.report.page.content import Box, Strip, Thumbnail

SPARE = 2  # times as many are chosen, for some cannot be opened
MOST_CLASSES = 100  # that have pictures: the page is one file
HEIGHT_PX, MOST_WIDE = 140, 2.5  # of a thumbnail; how many times as wide one may be
Corners = tuple[float, float, float, float]
Load = Callable[[Hashable], UInt8[np.ndarray, "rows cols 3"]]


@dataclass(frozen=True)
class Shown:
    """A window to show, or a whole image: where, with which boxes."""

    image_id: Hashable
    region: Corners | None
    """None: the whole image."""
    boxes: tuple[Box, ...]
    """In pixels of the image."""
    caption: str


@dataclass(frozen=True)
class Chosen:
    """Windows or images of one kind: some more than are shown."""

    title: str
    shown: list[Shown]
    most: int
    """That are shown of them."""
    count: int
    """How many there are of that kind."""


def cut(
    chosen: Mapping[str, Sequence[Chosen]], load: Load, looked: Callable[[], None] = lambda: None
) -> tuple[dict[str, list[Strip]], int]:
    """Return the thumbnails, and how many images could not be opened.

    Each image is decoded once, one after the other: this is a task of one CPU.

    Args:
        chosen: by class.
        load: gives an image by its id, RGB.
        looked: called after each image.
    """
    wanted: dict[Hashable, list[Shown]] = {}
    for each in (one for held in chosen.values() for kind in held for one in kind.shown):
        wanted.setdefault(each.image_id, []).append(each)
    made: dict[int, Thumbnail] = {}
    unopened = 0
    for image_id, windows in wanted.items():
        try:
            pixels = load(image_id)
        except (OSError, UndecodableImage):
            unopened += 1
        else:
            made |= {id(each): _thumbnail(each, pixels) for each in windows}
        looked()
    strips: dict[str, list[Strip]] = {}
    for name, held in chosen.items():
        for kind in held:
            thumbnails = [made[id(one)] for one in kind.shown if id(one) in made][: kind.most]
            if thumbnails:
                strip = Strip(kind.title, tuple(thumbnails), kind.count)
                strips.setdefault(name, []).append(strip)
    return strips, unopened


def _thumbnail(shown: Shown, pixels: UInt8[np.ndarray, "rows cols 3"]) -> Thumbnail:
    rows, cols = pixels.shape[:2]
    x_min, y_min, x_max, y_max = shown.region or (0, 0, cols, rows)
    # Of a box that lies outside (the file is another one by now) the edge is shown.
    left, top = min(max(0, int(x_min)), cols - 1), min(max(0, int(y_min)), rows - 1)
    right, bottom = min(cols, int(np.ceil(x_max))), min(rows, int(np.ceil(y_max)))
    part = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    factor = min(HEIGHT_PX / part.shape[0], MOST_WIDE * HEIGHT_PX / part.shape[1])
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = np.ascontiguousarray(cv2.resize(part, size, interpolation=how), np.uint8)

    def placed(box: Box) -> Box:
        x0, y0, x1, y1 = box.corners
        moved = (
            (x0 - left) * factor,
            (y0 - top) * factor,
            (x1 - left) * factor,
            (y1 - top) * factor,
        )
        return Box(moved, box.kind)

    boxes = tuple(map(placed, shown.boxes))
    width, height = size
    return Thumbnail(
        b64encode(crops.jpeg(small)).decode(),
        width,
        height,
        boxes,
        shown.caption,
        str(shown.image_id),
    )
