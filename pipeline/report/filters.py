"""What filters respond to, as a picture: the paper's Figure 2.

A row for each filter: the image with the place of its strongest response, the response over the
image, and the images of the store in which the filter responds most strongly.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw

from pipeline.filters import Filter, Looked, Picture, Response, Sight, Spot
from pipeline.report import marks
from pipeline.report.gallery import GAP, INK, PAPER

TILE = (208, 156)  # width and height of one picture, px
SIDE = 152  # width of what stands before a row, px
CAPTION, LEGEND, HEAD = 22, 74, 26  # heights, px
QUIET: marks.Colour = (120, 120, 128)
MARK = marks.MARKS["true"]  # green, as in the paper
DIMMED = 0.3  # of the image's brightness, where no cell's place is
ARROW_PX = 30

Pixels = UInt8[np.ndarray, "rows cols 3"]
Point = tuple[float | int, float | int]
Load = Callable[[Picture], Pixels | None]


@dataclass(frozen=True)
class _Fitted:
    """An image in its tile."""

    drawn: Image.Image
    factors: tuple[float, float]
    """Pixels of the tile per pixel of the image."""


def filters_sheet(looked: Looked, sight: Sight, load: Load, title: str) -> Image.Image:
    """Draw what was looked at.

    Where it is not known which pixels reach a cell, a ring marks its centre instead of a rectangle.

    Args:
        looked: what was seen.
        sight: where cells look.
        load: gives an image's pixels; None: it cannot be read, and its frame stays empty.
        title: of the picture.
    """
    columns = 2 + max((len(each.strongest) for each in looked.filters), default=0)
    step_y = TILE[1] + CAPTION + GAP
    width = SIDE + columns * (TILE[0] + GAP) + 2 * GAP
    height = LEGEND + HEAD + len(looked.filters) * step_y + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_legend(draw, looked, sight, title, width)
    seen = _Thumbnails(load)
    for row, each in enumerate(looked.filters):
        top = LEGEND + HEAD + row * step_y
        _draw_side(draw, each, top)
        for column, (tile, caption) in enumerate(_tiles(each, looked, sight, seen)):
            _place(sheet, draw, tile, caption, (_left(column), top))
    return sheet


def _left(column: int) -> int:
    """Where a column begins: the strongest images stand a little apart."""
    return SIDE + GAP + column * (TILE[0] + GAP) + (GAP if column > 1 else 0)


def _draw_legend(
    draw: ImageDraw.ImageDraw, looked: Looked, sight: Sight, title: str, width: int
) -> None:
    """Draw the title, what the marks mean, and the columns' names."""
    draw.text((GAP, 12), marks.fit_text(title, 20, width - 2 * GAP), fill=INK, font=marks.font(20))
    middle, letters = LEGEND - 20, marks.font(13)
    if sight.receptive_field_px is None:
        _ring(draw, (GAP + 15, middle), 9)
        told = "centre of the cell with the strongest response"
    else:
        marks.outline(draw, (GAP, middle - 10, GAP + 30, middle + 10), MARK, 3)
        told = (
            f"receptive field of the strongest response: {sight.receptive_field_px} px of an image "
            f"whose shorter side has {sight.scale_px}"
        )
    told += ";   standing: deviations of the response above the filter's mean"
    told = marks.fit_text(told, 13, width - 3 * GAP - 40)
    draw.text((GAP + 40, middle), told, fill=INK, font=letters, anchor="lm")
    for column, name in enumerate(("image", "its response")):
        at = (_left(column) + TILE[0] / 2, LEGEND + HEAD / 2)
        draw.text(at, name, fill=QUIET, font=letters, anchor="mm")
    strongest = f"strongest of {looked.images:,} images, each with its response"
    at = (_left(2), LEGEND + HEAD / 2)
    strongest = marks.fit_text(strongest, 13, width - GAP - _left(2))
    draw.text(at, strongest, fill=QUIET, font=letters, anchor="lm")


def _draw_side(draw: ImageDraw.ImageDraw, each: Filter, top: int) -> None:
    """Say before a row which filter it is, and how it responds."""
    told = [
        (f"filter {each.number}", 18, INK),
        (f"response {_short(each.response.value)}", 13, INK),
        (f"mean {_short(each.mean)}", 13, QUIET),
        (f"deviation {_short(each.deviation)}", 13, QUIET),
        (f"standing {each.standing:+.1f}", 13, INK),
    ]
    y = top + 14
    for text, size, colour in told:
        fitted = marks.fit_text(text, size, SIDE - GAP)
        draw.text((GAP, y), fitted, fill=colour, font=marks.font(size), anchor="lm")
        y += size + 11


def _tiles(
    each: Filter, looked: Looked, sight: Sight, seen: "_Thumbnails"
) -> list[tuple[Image.Image | None, str]]:
    """Return the pictures of a row, and what stands below them."""
    own = seen(looked.picture)
    column, row = each.response.cell
    heat = f"{_short(_lowest(each))} to {_short(each.response.value)}; cell {column}, {row}"
    row_of: list[tuple[Image.Image | None, str]] = [
        (_marked(own, looked.picture, each.response, sight, arrow=True), looked.picture.image_id),
        (_heat(own, looked.picture, each, sight), heat),
    ]
    for response in each.strongest:
        picture = looked.pictures[response.image_id]
        marked = _marked(seen(picture), picture, response, sight)
        row_of.append((marked, f"{_short(response.value)}  {response.image_id}"))
    return row_of


class _Thumbnails:
    """Images fitted into tiles, each read once."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._known: dict[str, _Fitted | None] = {}

    def __call__(self, picture: Picture) -> _Fitted | None:
        if picture.image_id not in self._known:
            pixels = self._load(picture)
            self._known[picture.image_id] = None if pixels is None else _fitted(pixels)
        return self._known[picture.image_id]


def _fitted(pixels: Pixels) -> _Fitted:
    rows, cols = pixels.shape[:2]
    factor = min(TILE[0] / cols, TILE[1] / rows)
    size = max(1, round(cols * factor)), max(1, round(rows * factor))
    drawn = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    return _Fitted(drawn, (size[0] / cols, size[1] / rows))


def _marked(
    fitted: _Fitted | None, picture: Picture, response: Response, sight: Sight, arrow: bool = False
) -> Image.Image | None:
    """Return a thumbnail with the place of a response."""
    if fitted is None:
        return None
    drawn, spot = fitted.drawn.copy(), sight.spot(picture, response.cell)
    draw, tip = ImageDraw.Draw(drawn), _tip(fitted, spot)
    if spot.receptive_field is None:
        _ring(draw, tip, 9)
    else:
        marks.outline(draw, _on_tile(fitted, spot.receptive_field), MARK, 3)
    if arrow:
        _arrow(draw, tip, drawn.size)
    return drawn


def _heat(
    fitted: _Fitted | None, picture: Picture, each: Filter, sight: Sight
) -> Image.Image | None:
    """Return the response, cell by cell, where the cells lie on the image."""
    if fitted is None:
        return None
    # Pixels of the resized image per pixel of the tile.
    per_pixel = [
        new / tile for new, tile in zip(sight.factors(picture), fitted.factors, strict=True)
    ]
    rows, columns = each.feature_map.shape
    across = _cells(fitted.drawn.width, per_pixel[0], sight, columns)
    down = _cells(fitted.drawn.height, per_pixel[1], sight, rows)
    drawn = Image.fromarray(_coloured(fitted.drawn, each, across, down))
    draw, tip = ImageDraw.Draw(drawn), _tip(fitted, sight.spot(picture, each.response.cell))
    half = [sight.geometry.stride / 2 / one for one in per_pixel]
    x_min, y_min = (round(at - reach) for at, reach in zip(tip, half, strict=True))
    x_max, y_max = (round(at + reach) for at, reach in zip(tip, half, strict=True))
    marks.outline(draw, (x_min, y_min, max(x_max, x_min + 3), max(y_max, y_min + 3)), MARK, 1)
    _arrow(draw, tip, drawn.size, math.hypot(*half) + 1)
    return drawn


def _coloured(
    image: Image.Image,
    each: Filter,
    across: Int[np.ndarray, " width"],
    down: Int[np.ndarray, " height"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the response in colours, over what is left of the image's light."""
    low = _lowest(each)
    share = np.clip((each.feature_map - low) / max(each.response.value - low, 1e-12), 0, 1)
    levels = np.round(share * 255).astype(np.uint8)[np.maximum(down, 0)][:, np.maximum(across, 0)]
    colours = cv2.applyColorMap(np.ascontiguousarray(levels), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    dimmed = np.asarray(image.convert("L"), np.float64)[:, :, None] * DIMMED
    has_cell = (down >= 0)[:, None, None] & (across >= 0)[None, :, None]
    shown = np.where(has_cell, 0.85 * colours + 0.5 * dimmed, dimmed)
    return np.clip(shown, 0, 255).astype(np.uint8)


def _lowest(each: Filter) -> float:
    """Return the darkest response: zero, but where a network's maps go below."""
    return min(0.0, float(each.feature_map.min()))


def _cells(
    length: int, resized_per_tile: float, sight: Sight, count: int
) -> Int[np.ndarray, " length"]:
    """Return the cell whose centre is nearest to each pixel of a tile's side; -1: there is none."""
    at = (np.arange(length) + 0.5) * resized_per_tile - 0.5
    cells = np.floor((at - sight.geometry.centre) / sight.geometry.stride + 0.5).astype(int)
    return np.where((cells >= 0) & (cells < count), cells, -1)


def _tip(fitted: _Fitted, spot: Spot) -> Point:
    """Return a spot's centre on the tile; of one beyond the border the nearest pixel."""
    x, y = (at * factor for at, factor in zip(spot.centre, fitted.factors, strict=True))
    width, height = fitted.drawn.size
    return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)


def _on_tile(fitted: _Fitted, box: Sequence[float]) -> marks.Rectangle:
    x_min, y_min, x_max, y_max = (round(edge * fitted.factors[k % 2]) for k, edge in enumerate(box))
    return x_min, y_min, max(x_max, x_min + 2), max(y_max, y_min + 2)


def _ring(draw: ImageDraw.ImageDraw, centre: Point, radius: int) -> None:
    x, y = centre
    for grown, width, colour in ((1, 5, marks.HALO), (0, 3, MARK.line)):
        reach = radius + grown
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=colour, width=width)


def _arrow(
    draw: ImageDraw.ImageDraw,
    tip: Point,
    size: tuple[int, int],
    short_of_px: float = 1.0,
) -> None:
    """Draw an arrow that ends short of a point, and comes from where there is more room."""
    ahead = [1.0 if at < side / 2 else -1.0 for at, side in zip(tip, size, strict=True)]
    way = np.array(ahead) / np.sqrt(2)
    aside = np.array([-way[1], way[0]])
    end, neck, start = (np.array(tip) + way * (short_of_px + far) for far in (0, 9, ARROW_PX))
    for grown, colour in ((2.0, marks.HALO), (0.0, marks.WHITE)):
        shaft = [tuple(start + way * grown / 2), tuple(neck)]
        draw.line(shaft, fill=colour, width=round(3 + grown))
        head = (end - way * grown, neck + aside * (5 + grown), neck - aside * (5 + grown))
        draw.polygon([tuple(each) for each in head], fill=colour)


def _place(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: Image.Image | None,
    caption: str,
    corner: tuple[int, int],
) -> None:
    """Put a picture into the middle of its place, and what stands below it."""
    left, top = corner
    if tile is None:
        frame = (left, top, left + TILE[0] - 1, top + TILE[1] - 1)
        draw.rectangle(frame, outline=QUIET)
        middle = (left + TILE[0] / 2, top + TILE[1] / 2)
        draw.text(middle, "cannot be read", fill=QUIET, font=marks.font(13), anchor="mm")
    else:
        room = TILE[0] - tile.width, TILE[1] - tile.height
        sheet.paste(tile, (left + room[0] // 2, top + room[1] // 2))
    draw.text(
        (left + TILE[0] / 2, top + TILE[1] + CAPTION / 2),
        marks.fit_text(caption, 13, TILE[0]),
        fill=INK,
        font=marks.font(13),
        anchor="mm",
    )


def _short(value: float) -> str:
    """Return a number in four digits or fewer, as far as that is possible."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
