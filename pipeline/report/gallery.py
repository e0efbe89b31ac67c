"""A folder of pictures and one sheet of them all: the detections of a test set to look at."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from pipeline.evaluation import match_detections
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    TableLike,
    read_detections,
    read_ground_truth,
)
from pipeline.report import marks
from pipeline.report.pictures import draw_detections

PAPER: marks.Colour = (250, 249, 246)
INK: marks.Colour = (40, 40, 46)
CELL = (420, 340)  # width and height of one picture on the sheet, px
GAP, CAPTION = 14, 26  # px


@dataclass(frozen=True)
class Scene:
    """What one picture shows: rows of the two tables, and what became of them."""

    image_id: Hashable
    detections: list[dict]
    outcomes: list[str]
    objects: list[dict]
    missed: list[bool]


def write_pictures(
    folder: Path,
    image_ids: Sequence[Hashable],
    load: Callable[[Hashable], UInt8[np.ndarray, "rows cols 3"]],
    detections: TableLike,
    ground_truth: TableLike,
    *,
    iou: float | int = 0.5,
    min_score: float | int = -np.inf,
    max_detections: int = 10,
    columns: int = 4,
    title: str = "Detections",
) -> tuple[Path, ...]:
    """Write one picture per image, and ``sheet.png`` with all of them and a legend.

    A detection is judged among all detections of its image, as the evaluation does; of these the
    best are drawn. An object is marked as missed when no drawn detection is true by it.

    Args:
        folder: created if absent.
        image_ids: the images to show, in this order.
        load: gives an image by its id, RGB.
        detections: of these and any other images.
        ground_truth: of these and any other images.
        iou: IoU that suffices.
        min_score: detections below are not drawn.
        max_detections: at most so many are drawn on an image, the best ones.
        columns: pictures in a row of the sheet.
        title: of the sheet.

    Returns:
        The pictures' paths in the order of ``image_ids``, then the sheet's.

    Raises:
        InputError: a malformed table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    cells: list[Image.Image] = []
    for scene in scenes(image_ids, detections, ground_truth, iou, min_score, max_detections):
        image = load(scene.image_id)
        # quoted: an id such as "cats/001" or "../x" stays one file in this folder
        path = folder / f"{quote(str(scene.image_id), safe=' ')}.png"
        path = path.with_name("sheet_.png") if path.name == "sheet.png" else path
        Image.fromarray(_drawn(scene, image)).save(path, format="PNG")
        paths.append(path)
        cells.append(_cell(scene, image))
    sheet = folder / "sheet.png"
    compose_sheet(cells, columns, title).save(sheet)
    return (*paths, sheet)


def scenes(
    image_ids: Sequence[Hashable],
    detections: TableLike,
    ground_truth: TableLike,
    iou: float | int = 0.5,
    min_score: float | int = -np.inf,
    max_detections: int = 10,
) -> Iterator[Scene]:
    """What to draw on each image; arguments as in ``write_pictures``."""
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    everywhere = {*image_ids, *found.images.names, *truth.images.names}
    matches = match_detections(detections, ground_truth, iou, everywhere)
    outcomes = matches.outcomes
    for image_id in image_ids:
        rows = np.flatnonzero(_of_image(found, image_id) & (found.scores >= min_score))
        rows = rows[np.argsort(-found.scores[rows], kind="stable")][:max_detections]
        objects = np.flatnonzero(_of_image(truth, image_id))
        seen = set(matches.objects[rows[outcomes[rows] == "true"]].tolist())
        yield Scene(
            image_id,
            [_row(found, row) | {"score": float(found.scores[row])} for row in rows.tolist()],
            outcomes[rows].tolist(),
            [_row(truth, row) for row in objects.tolist()],
            [row not in seen and not truth.difficult[row] for row in objects.tolist()],
        )


def _of_image(table: Detections | GroundTruth, image_id: Hashable) -> Bool[np.ndarray, " rows"]:
    if image_id not in table.images.names:
        return np.zeros(len(table.images.codes), dtype=bool)
    return table.images.codes == table.images.names.index(image_id)


def _row(table: Detections | GroundTruth, row: int) -> dict:
    return {
        "image_id": table.images.names[table.images.codes[row]],
        "class": table.classes.names[table.classes.codes[row]],
        "box": table.boxes[row].tolist(),
    }


def _drawn(
    scene: Scene, image: UInt8[np.ndarray, "rows cols 3"], factor: float | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    return draw_detections(
        image, scene.detections, scene.outcomes, scene.objects, scene.missed, factor=factor
    )


def _cell(scene: Scene, image: UInt8[np.ndarray, "rows cols 3"]) -> Image.Image:
    """One cell of the sheet. Drawn at its final size, so that labels stay readable."""
    rows, cols = image.shape[:2]
    drawn = Image.fromarray(_drawn(scene, image, min(CELL[0] / cols, CELL[1] / rows)))
    cell = Image.new("RGB", (CELL[0], CELL[1] + CAPTION), PAPER)
    cell.paste(drawn, ((CELL[0] - drawn.width) // 2, (CELL[1] - drawn.height) // 2))
    text = marks.fit_text(_caption(scene), 13, CELL[0])
    ImageDraw.Draw(cell).text(
        (CELL[0] / 2, CELL[1] + CAPTION / 2), text, fill=INK, font=marks.font(13), anchor="mm"
    )
    return cell


def _caption(scene: Scene) -> str:
    right = scene.outcomes.count("true")
    wrong = scene.outcomes.count("false") + scene.outcomes.count("duplicate")
    return f"{scene.image_id}:  {right} right, {wrong} wrong, {sum(scene.missed)} missed"


def compose_sheet(cells: Sequence[Image.Image], columns: int, title: str) -> Image.Image:
    """Cells of equal size in a grid, under a title and the legend of the marks."""
    columns = max(1, min(columns, len(cells)))
    rows = -(-len(cells) // columns)
    step = (CELL[0] + GAP, CELL[1] + CAPTION + GAP)
    legend = _legend(columns * step[0] - GAP, title)
    size = (columns * step[0] + GAP, legend.height + rows * step[1] + 2 * GAP)
    sheet = Image.new("RGB", size, PAPER)
    sheet.paste(legend, (GAP, GAP))
    for k, cell in enumerate(cells):
        row, column = divmod(k, columns)
        sheet.paste(cell, (GAP + column * step[0], legend.height + 2 * GAP + row * step[1]))
    return sheet


def _legend(width: int, title: str) -> Image.Image:
    """The title, and below it each mark with its meaning, in as many lines as the width needs."""
    letters = marks.font(15)
    items: list[tuple[int, int, marks.Mark]] = []
    x, y = 0, 40
    for mark in (mark for name, mark in marks.MARKS.items() if name != "found"):
        needs = 60 + round(letters.getlength(mark.meaning)) + 28
        if x and x + needs > width:
            x, y = 0, y + 36
        items.append((x, y, mark))
        x += needs
    strip = Image.new("RGB", (width, y + 34), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((0, 2), marks.fit_text(title, 22, width), fill=INK, font=marks.font(22))
    for x, y, mark in items:
        marks.outline(draw, (x + 1, y + 1, x + 49, y + 29), mark, 3)
        draw.text((x + 25, y + 15), mark.sign, fill=mark.ground, font=letters, anchor="mm")
        draw.text((x + 58, y + 15), mark.meaning, fill=INK, font=letters, anchor="lm")
    return strip
