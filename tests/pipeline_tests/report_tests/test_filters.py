"""The picture of what filters respond to, pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.filters import Filter, Looked, Picture, Response, Sight
from pipeline.networks import Geometry, load
from pipeline.report import filters as drawing
from pipeline.report.filters import HEAD, LEGEND, MARK, SIDE, TILE, filters_sheet
from pipeline.report.gallery import GAP

# Twice the tile's pixels, seen at its own size: two pixels of each are one of the tile.
WIDTH, HEIGHT = 2 * TILE[0], 2 * TILE[1]
PICTURES = {name: Picture(name, Path(f"{name}.jpg"), WIDTH, HEIGHT) for name in "ab"}
COLUMNS, ROWS = WIDTH // 16 - 1, HEIGHT // 16 - 1
GREY = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)


def sight(network: bool = False) -> Sight:
    held = load("zf5", width=0.05, fc_units=4) if network else None
    return Sight(Geometry(16, 20.0), HEIGHT, None, held)


def looked(cell: tuple[int, int], strongest: str = "ba") -> Looked:
    feature_map = np.zeros((ROWS, COLUMNS))
    feature_map[cell[1], cell[0]] = 8.0
    own = Filter(
        12, Response("a", 8.0, cell), 2.0, 3.0, 2.0,
        [Response(name, 9.0 - k, cell) for k, name in enumerate(strongest)], feature_map,
    )  # fmt: skip
    return Looked(PICTURES["a"], [own, own], 200, 16, PICTURES)


def drawn(what: Looked, how: Sight, load_=lambda picture: GREY) -> np.ndarray:
    return np.asarray(filters_sheet(what, how, load_, "a title"))


def tile(sheet: np.ndarray, column: int, row: int = 0) -> np.ndarray:
    left, top = drawing._left(column), LEGEND + HEAD + row * (TILE[1] + drawing.CAPTION + GAP)
    return sheet[top : top + TILE[1], left : left + TILE[0]]


def places(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    rows, cols = np.nonzero((pixels == colour).all(axis=2))
    if not len(rows):
        return None
    return int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1


def test_size_and_columns() -> None:
    sheet = drawn(looked((5, 4)), sight())
    height = LEGEND + HEAD + 2 * (TILE[1] + drawing.CAPTION + GAP) + GAP
    assert sheet.shape == (height, SIDE + 4 * (TILE[0] + GAP) + 2 * GAP, 3)
    for row in (0, 1):
        for column in range(4):
            assert places(tile(sheet, column, row), MARK.line) is not None


def test_the_rectangle_is_the_receptive_field() -> None:
    sheet = drawn(looked((8, 7)), sight(network=True))
    # 159 px around 20 + 16 · 8 = 148 and 20 + 16 · 7 = 132, halved and rounded to even.
    expected = (69 // 2, 53 // 2, 228 // 2, 212 // 2)
    for column in (2, 3):
        assert places(tile(sheet, column), MARK.line) == expected
    # In the image, too, where an arrow may lie over it; and nowhere else.
    assert places(tile(sheet, 0), MARK.line) == expected


def test_a_receptive_field_is_cut_at_the_border() -> None:
    sheet = drawn(looked((0, 0)), sight(network=True))
    assert places(tile(sheet, 2), MARK.line) == (0, 0, 50, 50)  # 20 + 79 + 1, halved


def test_a_ring_marks_the_centre_where_the_receptive_field_is_unknown() -> None:
    x_min, y_min, x_max, y_max = places(tile(drawn(looked((8, 7)), sight()), 2), MARK.line) or ()
    # About (148.5, 132.5), halved.
    assert ((x_min + x_max) / 2, (y_min + y_max) / 2) == pytest.approx((74.5, 66.5), abs=1)
    assert x_max - x_min < 24


def test_the_response_lies_where_its_cell_does() -> None:
    heat = tile(drawn(looked((8, 7)), sight()), 1).astype(int)
    # Cell 8, 7 has the pixels 140 to 156 and 124 to 140, halved; a mark frames it.
    assert places(heat, MARK.line) == (70, 62, 78, 70)
    hot, cold = heat[66, 74], heat[66, 100]
    assert hot.sum() > 500
    assert cold.sum() < 100
    # Before the first cell's place, 12 to 28, there is none: the image alone, dimmed.
    assert heat[100, 2].tolist() == [30, 30, 30]
    assert heat[100, 8].tolist() != [30, 30, 30]


def test_an_arrow_points_at_the_place_from_where_there_is_room() -> None:
    for cell, ahead in (((2, 2), 1), ((20, 14), -1)):
        x_min, y_min, x_max, y_max = places(
            tile(drawn(looked(cell), sight(network=True)), 0), (255, 255, 255)
        ) or (0, 0, 0, 0)
        tip = tuple((20.5 + 16 * at) / 2 for at in cell)
        at = (x_min, y_min) if ahead == 1 else (x_max, y_max)
        assert at == pytest.approx(tip, abs=4)
        assert min(x_max - x_min, y_max - y_min) > 15


def test_images_that_are_gone_leave_a_frame() -> None:
    def one(picture: Picture) -> np.ndarray | None:
        return None if picture.image_id == "b" else GREY

    sheet = drawn(looked((5, 4)), sight(), one)
    assert places(tile(sheet, 2), MARK.line) is None
    assert places(tile(sheet, 2), drawing.QUIET) == (0, 0, *TILE)
    assert places(tile(sheet, 3), MARK.line) is not None


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3)])
def test_images_of_any_shape(size: tuple[int, int]) -> None:
    thin = {name: Picture(name, Path("x"), *size) for name in "ab"}
    what = looked((0, 0))
    made = Looked(thin["a"], what.filters, 1, 16, thin)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for how in (sight(), Sight(Geometry(16, 20.0), 1)):
        assert drawn(made, how, lambda _: pixels).shape[2] == 3


def test_responses_below_zero_and_none_at_all() -> None:
    what = looked((5, 4))
    for values in (np.full((ROWS, COLUMNS), -3.0), np.zeros((ROWS, COLUMNS))):
        own = Filter(1, Response("a", float(values.max()), (0, 0)), -3.0, 0.0, 0.0, [], values)
        made = Looked(PICTURES["a"], [own], 1, 16, what.pictures)
        assert drawn(made, sight()).shape[1] == SIDE + 2 * (TILE[0] + GAP) + 2 * GAP


def test_no_filter_at_all() -> None:
    made = Looked(PICTURES["a"], [], 1, 16, PICTURES)
    assert Image.fromarray(drawn(made, sight())).height == LEGEND + HEAD + GAP
