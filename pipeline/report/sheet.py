"""A sheet of crops: what a search has found, best first, each with its score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from pipeline.report import marks
from pipeline.report.gallery import GAP, INK, PAPER

CROP = (180, 150)  # width and height of one crop on the sheet, px
CAPTION, TITLE = 22, 40  # px
WIDEST_TITLE = 900  # px; a longer one is cut, unless the crops are wider
QUERIED: marks.Colour = (0, 90, 200)


@dataclass(frozen=True)
class Crop:
    """One picture on the sheet."""

    pixels: UInt8[np.ndarray, "rows cols 3"] | None
    """RGB; None: it could not be read."""
    caption: str
    queried: bool = False
    """Whether it is what was looked for; then it stands in a frame."""


def crop_sheet(crops: Sequence[Crop], title: str, columns: int = 7) -> Image.Image:
    """Return crops in a grid, under a title."""
    columns = max(1, min(columns, len(crops)))
    rows = -(-len(crops) // columns)
    step_x, step_y = CROP[0] + GAP, CROP[1] + CAPTION + GAP
    told = round(marks.font(18).getlength(title)) + 2 * GAP  # a few crops are narrower than that
    width = max(columns * step_x + GAP, min(told, WIDEST_TITLE))
    size = (width, TITLE + rows * step_y + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    text = marks.fit_text(title, 18, size[0] - 2 * GAP)
    draw.text((GAP, TITLE / 2), text, fill=INK, font=marks.font(18), anchor="lm")
    for number, crop in enumerate(crops):
        row, column = divmod(number, columns)
        _draw(sheet, draw, crop, (GAP + column * step_x, TITLE + row * step_y))
    return sheet


def _draw(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, crop: Crop, corner: tuple[int, int]
) -> None:
    """Draw one crop and what stands below it."""
    left, top = corner
    if crop.pixels is None or not crop.pixels.size:
        draw.rectangle((left, top, left + CROP[0] - 1, top + CROP[1] - 1), outline=INK)
    else:
        picture = Image.fromarray(crop.pixels)
        factor = min(CROP[0] / picture.width, CROP[1] / picture.height)
        fitted = (
            max(1, round(picture.width * factor)),
            max(1, round(picture.height * factor)),
        )
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
        sheet.paste(
            picture,
            (left + (CROP[0] - picture.width) // 2, top + (CROP[1] - picture.height) // 2),
        )
    if crop.queried:
        frame = (left - 4, top - 4, left + CROP[0] + 3, top + CROP[1] + 3)
        draw.rectangle(frame, outline=QUERIED, width=3)
    draw.text(
        (left + CROP[0] / 2, top + CROP[1] + CAPTION / 2),
        marks.fit_text(crop.caption, 13, CROP[0]),
        fill=INK,
        font=marks.font(13),
        anchor="mm",
    )
