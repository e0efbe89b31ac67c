"""Which windows a page shows of each class, and their thumbnails.

The best hits; the false detections of each kind that scored highest, which are what spoils AP; and
the missed objects, the largest first, which should have been easy.
"""

from base64 import b64encode
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from pipeline import machine
from pipeline.boxes import area
from pipeline.boxes import iou as iou_of
from pipeline.errors import InputError
from pipeline.evaluation import KINDS, detection_kinds, match_detections
from pipeline.evaluation.diagnosis import NEAR
from pipeline.evaluation.ranking import best_first
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    Labels,
    TableLike,
    read_detections,
    read_ground_truth,
)
from pipeline.images import UndecodableImage
from pipeline.report import crops
from pipeline.report.page.content import Box, Shelf, Thumbnail

BOXES = {"true": "right", "false": "wrong", "missed": "missed", "object": "labelled"}
"""What a box on a thumbnail is."""
BEST_HITS = "Best hits"
BEST, OF_A_KIND, MISSED = 8, 4, 8
HEIGHT_PX, MOST_WIDE = 140, 2.5  # of a thumbnail; how many times as wide one may be
CONTEXT = 0.35  # of the longer side of what it shows, around it
TITLES = {
    "localisation": "Wrong: badly placed, or found twice",
    "similar class": "Wrong: a similar class",
    "other class": "Wrong: another class",
    "background": "Wrong: background",
}
Corners = tuple[float, float, float, float]
Load = Callable[[Hashable], UInt8[np.ndarray, "rows cols 3"]]


@dataclass(frozen=True)
class Shown:
    """A window to show: where, with which boxes."""

    image_id: Hashable
    region: Corners
    boxes: tuple[Box, ...]
    """In pixels of the image."""
    caption: str


def choose(
    detections: TableLike,
    ground_truth: TableLike,
    *,
    classes: Sequence[str],
    iou: float | int = 0.5,
    image_ids: Collection[Hashable] | None = None,
    similar: Collection[Collection[Hashable]] = (),
) -> dict[str, dict[str, list[Shown]]]:
    """Return what is shown of each class, by title.

    Args:
        detections: as for `evaluate_detections`.
        ground_truth: likewise.
        classes: in their order.
        iou: that suffices.
        image_ids: all images that were searched.
        similar: sets of classes that look alike.

    Raises:
        InputError: as `evaluate_detections`.
    """
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    kinds = detection_kinds(detections, ground_truth, iou, image_ids, similar)
    matches = match_detections(detections, ground_truth, iou, image_ids)
    scene = _Scene(found, truth)
    order = best_first(found.scores)
    chosen: dict[str, dict[str, list[Shown]]] = {}
    for name in classes:
        mine = order[(scene.of_found == name)[order]]
        shelves = {BEST_HITS: _first(mine, kinds, "true", BEST)}
        shelves |= {TITLES[kind]: _first(mine, kinds, kind, OF_A_KIND) for kind in KINDS}
        wanted = (scene.of_truth == name) & ~truth.difficult & ~matches.found
        missed = np.flatnonzero(wanted)
        largest = missed[np.argsort(-area(scene.boxes[missed]), kind="stable")][:MISSED]
        told = {
            title: [
                scene.detection(row, name, "true" if title == BEST_HITS else "false")
                for row in rows
            ]
            for title, rows in shelves.items()
        }
        told["Missed objects"] = [scene.missed(row) for row in largest.tolist()]
        chosen[name] = {title: each for title, each in told.items() if each}
    return chosen


class _Scene:
    """Detections and objects, and what to draw around one of them."""

    def __init__(self, found: Detections, truth: GroundTruth) -> None:
        self._found, self._truth = found, truth
        self.boxes = truth.boxes.astype(np.float64)
        self.of_found, self.of_truth = _named(found.classes), _named(truth.classes)
        order = np.argsort(truth.images.codes, kind="stable")
        held, starts = np.unique(truth.images.codes[order], return_index=True)
        parts = np.split(order, starts[1:])
        names = [truth.images.names[code] for code in held.tolist()]
        self._objects = dict(zip(names, parts, strict=False))

    def detection(self, row: int, name: str, kind: str) -> Shown:
        """Show a detection of a class, and the objects that it has to do with.

        These are what it overlaps of its own class, or else, if it overlaps that enough to be
        taken for it, what it overlaps most.
        """
        image_id = self._found.images.names[self._found.images.codes[row]]
        box = self._found.boxes[row].astype(np.float64)
        near = self._objects.get(image_id, np.zeros(0, np.int64))
        overlaps = iou_of(box[None], self.boxes[near])[0]
        own = self.of_truth[near] == name
        told = f"{self._found.scores[row]:.2f}"
        drawn, best = near[own & (overlaps > 0)], float(overlaps[own].max(initial=0))
        if best >= NEAR:
            told = f"{told}, IoU {best:.2f}"
        elif len(near) and overlaps.max() >= NEAR:
            drawn = near[[int(np.argmax(overlaps))]]
            told = f"{told}, {self.of_truth[drawn[0]]}"
        objects = [Box(_corners(self.boxes[each]), "object") for each in drawn]
        mine = Box(_corners(box), kind)
        return Shown(image_id, _around(mine.corners), (*objects, mine), told)

    def missed(self, row: int) -> Shown:
        """Show an object that no detection found."""
        image_id = self._truth.images.names[self._truth.images.codes[row]]
        box = Box(_corners(self.boxes[row]), "missed")
        x_min, y_min, x_max, y_max = box.corners
        size = f"{x_max - x_min:.0f}×{y_max - y_min:.0f} px"
        return Shown(image_id, _around(box.corners), (box,), size)


def cut(chosen: Mapping[str, Mapping[str, Sequence[Shown]]], load: Load) -> dict[str, list[Shelf]]:
    """Return the thumbnails; each image is decoded once, and what cannot be is left out.

    Args:
        chosen: by class and title.
        load: gives an image by its id, RGB.
    """
    wanted: dict[Hashable, list[Shown]] = {}
    for each in (one for titles in chosen.values() for held in titles.values() for one in held):
        wanted.setdefault(each.image_id, []).append(each)
    made: dict[int, Thumbnail] = {}
    with ThreadPoolExecutor(machine.cpus()) as pool:
        for part in pool.map(lambda item: _of_image(item[0], item[1], load), wanted.items()):
            made |= part
    shelves = {
        name: [
            Shelf(title, tuple(made[id(one)] for one in held if id(one) in made))
            for title, held in titles.items()
        ]
        for name, titles in chosen.items()
    }
    return {name: [each for each in held if each.thumbnails] for name, held in shelves.items()}


def _named(labels: Labels) -> np.ndarray:
    """Return each row's name."""
    if not len(labels.codes):
        return np.zeros(0, object)
    return np.array(labels.names, object)[labels.codes]


def _first(rows: Int[np.ndarray, " rows"], kinds: np.ndarray, kind: str, count: int) -> list[int]:
    return rows[kinds[rows] == kind][:count].tolist()


def _corners(box: Float[np.ndarray, " 4"]) -> Corners:
    x_min, y_min, x_max, y_max = box.tolist()
    return x_min, y_min, x_max, y_max


def _around(box: Corners) -> Corners:
    margin = CONTEXT * max(box[2] - box[0], box[3] - box[1])
    return box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin


def _of_image(image_id: Hashable, wanted: Iterable[Shown], load: Load) -> dict[int, Thumbnail]:
    try:
        pixels = load(image_id)
    except (OSError, UndecodableImage, InputError):
        return {}
    return {id(each): _thumbnail(each, pixels) for each in wanted}


def _thumbnail(shown: Shown, pixels: UInt8[np.ndarray, "rows cols 3"]) -> Thumbnail:
    rows, cols = pixels.shape[:2]
    x_min, y_min, x_max, y_max = shown.region
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
