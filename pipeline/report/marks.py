"""The marks drawn on pictures: what each outcome looks like, its lines, and its labels.

Outcomes differ in colour, in line style and in a sign on the label, so that they are told apart in
greyscale and by colour-blind eyes.
"""

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

from pipeline.errors import InputError

Rectangle = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max, half-open, in pixels
Colour = tuple[int, int, int]
HALO: Colour = (20, 20, 24)
WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True)
class Mark:
    """How one outcome is drawn.

    Attributes:
        meaning: the words of the legend.
        sign: begins the label.
        line: colour of the outline, bright, for dark grounds too.
        ground: colour of the label's ground, dark enough for white text.
        dash: lengths drawn and left out, in line widths; ``()`` is an unbroken line.
        weight: line width relative to the picture's.
    """

    meaning: str
    sign: str
    line: Colour
    ground: Colour
    dash: tuple[int, ...] = ()
    weight: float = 1.0


MARKS = {
    "true": Mark("right", "✓", (0, 215, 130), (0, 130, 85)),
    "false": Mark("wrong", "✗", (255, 90, 50), (200, 50, 15), (5, 3), 0.8),
    "duplicate": Mark("found twice", "×2", (255, 175, 40), (175, 95, 0), (5, 2, 1, 2), 0.8),
    "difficult": Mark(
        "difficult object, not counted", "~", (205, 195, 215), (110, 100, 120), (2, 2), 0.8
    ),
    "missed": Mark("missed object", "?", (70, 165, 255), (0, 90, 200), (1, 2)),
    "found": Mark("found, not judged", "•", (255, 215, 0), (110, 90, 0)),
    "object": Mark("true box", "", (255, 255, 255), (60, 60, 66), (), 0.34),
}


def mark_of(outcome: str) -> Mark:
    """The mark of an outcome.

    Raises:
        InputError: no such outcome.
    """
    if outcome not in MARKS:
        raise InputError(f"no outcome {outcome!r}; known are {', '.join(MARKS)}")
    return MARKS[outcome]


GOLDEN = (5**0.5 - 1) / 2  # hues so far apart that the next falls into the widest gap


@lru_cache(maxsize=256)
def of_class(number: int) -> Mark:
    """How a detection that nobody judges is drawn: each class has its colour (paper, Figure 6).

    Args:
        number: of the class. Neighbours differ most; from about twenty on colours look alike.
    """
    found, hue = MARKS["found"], (0.14 + number * GOLDEN) % 1  # the first is about as yellow
    return Mark(found.meaning, found.sign, _colour(hue, 1.0), _colour(hue, _dark_enough(hue)))


def _colour(hue: float, light: float) -> Colour:
    red, green, blue = (round(255 * each) for each in colorsys.hsv_to_rgb(hue, 0.8, light))
    return red, green, blue


def _dark_enough(hue: float) -> float:
    """The most light of a hue on which white text is readable."""
    # Yellow is 12 times as bright as blue to the eye. WCAG asks for a contrast of 4.5.
    weights = (0.2126, 0.7152, 0.0722)
    full = (each**2.2 for each in colorsys.hsv_to_rgb(hue, 0.8, 1.0))
    luminance = sum(weight * each for weight, each in zip(weights, full, strict=True))
    return min(1.0, ((1.05 / 5.0 - 0.05) / luminance) ** (1 / 2.2))


@lru_cache(maxsize=32)
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Bold as matplotlib carries it: the same letters on every machine."""
    import matplotlib as mpl  # see `plots`

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(str(path), size_px, layout_engine=ImageFont.Layout.BASIC)


def outline(draw: ImageDraw.ImageDraw, box: Rectangle, mark: Mark, width_px: int) -> None:
    """Draw a box's outline, inside the box, with a dark halo that shows on any ground."""
    width = max(1, round(width_px * mark.weight))
    pieces = list(_pieces(box, mark.dash, width))
    for x_min, y_min, x_max, y_max in pieces:  # all halos first: none may cover a neighbour
        draw.rectangle((x_min - 1, y_min - 1, x_max, y_max), fill=HALO)
    for x_min, y_min, x_max, y_max in pieces:
        draw.rectangle((x_min, y_min, x_max - 1, y_max - 1), fill=mark.line)


def _pieces(box: Rectangle, dash: tuple[int, ...], width: int) -> Iterator[Rectangle]:
    """The drawn pieces of the four sides, as filled rectangles: crisp at any width."""
    x_min, y_min, x_max, y_max = box
    for start, stop in _dashes(x_min, x_max, dash, width):
        yield start, y_min, stop, min(y_min + width, y_max)
        yield start, max(y_max - width, y_min), stop, y_max
    for start, stop in _dashes(y_min, y_max, dash, width):
        yield x_min, start, min(x_min + width, x_max), stop
        yield max(x_max - width, x_min), start, x_max, stop


def _dashes(start: int, stop: int, dash: tuple[int, ...], width: int) -> Iterator[tuple[int, int]]:
    if not dash:
        yield start, stop
        return
    at, k = start, 0
    while at < stop:
        length = dash[k % len(dash)] * width
        if k % 2 == 0:
            yield at, min(at + length, stop)
        at, k = at + length, k + 1


def fit_text(text: str, size_px: int, width_px: int) -> str:
    """The text, cut with an ellipsis where it would be wider than ``width_px``; may be empty."""
    letters = font(size_px)
    # No second line; and no more than could fit, for each length is measured.
    text = "".join(sign if sign.isprintable() else "·" for sign in text[: width_px + 1])
    if letters.getlength(text) <= width_px:
        return text
    for length in range(len(text) - 1, 0, -1):
        cut = text[:length].rstrip() + "…"
        if letters.getlength(cut) <= width_px:
            return cut
    return ""


def label_size(text: str, size_px: int) -> tuple[int, int]:
    """Width and height in pixels of a label: the text and its margin."""
    margin = max(2, size_px // 4)
    return round(font(size_px).getlength(text) + 0.5) + 2 * margin, size_px + 2 * margin


def place_label(
    box: Rectangle, size: tuple[int, int], picture: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """Where a label goes: at its box, always inside the picture, off other labels if it can.

    Args:
        box: of the detection.
        size: the label's width and height; no larger than the picture.
        picture: width and height.
        taken: places of labels already drawn.
    """
    width, height = size
    left, right = box[0], box[2] - width
    corners = [
        (left, box[1] - height),
        (left, box[1]),
        (left, box[3]),
        (left, box[3] - height),
        (right, box[1] - height),
        (right, box[1]),
        (right, box[3]),
        *((left, box[1] + k * height) for k in range(1, 8)),
    ]
    places = [_inside(corner, size, picture) for corner in corners]
    return min(places, key=lambda place: sum(_shared(place, other) for other in taken))


def _inside(corner: tuple[int, int], size: tuple[int, int], picture: tuple[int, int]) -> Rectangle:
    x = max(0, min(corner[0], picture[0] - size[0]))
    y = max(0, min(corner[1], picture[1] - size[1]))
    return x, y, x + size[0], y + size[1]


def _shared(one: Rectangle, other: Rectangle) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def label(draw: ImageDraw.ImageDraw, place: Rectangle, text: str, mark: Mark, size_px: int) -> None:
    """Draw a label: white text on the mark's ground."""
    x_min, y_min, x_max, y_max = place
    draw.rectangle((x_min, y_min, x_max - 1, y_max - 1), fill=mark.ground)
    centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
    draw.text(centre, text, fill=WHITE, font=font(size_px), anchor="mm")
