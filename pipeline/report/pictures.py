"""Images with their detections drawn: right, wrong, found twice, and what was missed."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from pipeline.errors import InputError
from pipeline.evaluation.tables import TableLike, read_detections, read_ground_truth
from pipeline.report import marks

READABLE_PX = 420  # a picture with a shorter side below this is enlarged, so that labels fit
LARGEST_PX = 2000  # but not to a longer side beyond this: thin strips stay strips


def draw_detections(
    image: UInt8[np.ndarray, "rows cols 3"],
    detections: TableLike,
    outcomes: Sequence[str] | np.ndarray,
    objects: TableLike = (),
    missed: ArrayLike | None = None,
    *,
    factor: float | int | None = None,
    classes: Sequence[str] = (),
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw one image's detections, best score on top, and its objects.

    Right detections have unbroken green outlines, wrong ones dashed red, repeated ones orange
    dash-dotted; missed objects are dotted blue. True boxes are thin white lines underneath.
    Detections that nobody judges are yellow, or each class in a colour of its own.

    Args:
        image: RGB.
        detections: rows with ``image_id``, ``class``, ``score`` and the box, of this image only.
        outcomes: per detection, as ``match_detections`` tells them.
        objects: the image's ground truth; may be empty.
        missed: per object, whether to mark it as missed; default none.
        factor: enlargement of the picture; default: the smallest whole number that makes the
            shorter side readable (420 px).
        classes: all that there are, so that one has the same colour in every picture; for
            detections with the outcome ``found``. Default: these are all yellow.

    Returns:
        RGB, ``factor`` times as large.

    Raises:
        InputError: a malformed table, an unknown outcome, or lists of different lengths.
    """
    found, truth = read_detections(detections), read_ground_truth(objects)
    lost = np.zeros(len(truth.boxes), bool) if missed is None else np.asarray(missed, dtype=bool)
    if len(outcomes) != len(found.scores) or lost.shape != (len(truth.boxes),):
        raise InputError(
            f"{len(outcomes)} outcomes for {len(found.scores)} detections, "
            f"{lost.size} missed marks for {len(truth.boxes)} objects; give one each"
        )
    picture = _enlarged(image, factor or whole_factor(image))
    canvas = _Canvas(picture, picture.width / image.shape[1], picture.height / image.shape[0])
    for row in range(len(truth.boxes)):
        canvas.outline(truth.boxes[row], marks.mark_of("missed" if lost[row] else "object"))
    names = [str(found.classes.names[code]) for code in found.classes.codes]
    own = [
        marks.of_class(classes.index(name))
        if outcome == "found" and name in classes
        else marks.mark_of(str(outcome))
        for name, outcome in zip(names, outcomes, strict=True)
    ]
    worst_first = np.argsort(found.scores, kind="stable")
    for row in worst_first:
        canvas.outline(found.boxes[row], own[row])
    for row in worst_first[::-1]:  # the best choose their label's place first
        canvas.label(found.boxes[row], own[row], f"{names[row]} {found.scores[row]:.2f}")
    for row in np.flatnonzero(lost):
        name = truth.classes.names[truth.classes.codes[row]]
        canvas.label(truth.boxes[row], marks.mark_of("missed"), str(name))
    return np.asarray(picture)


def whole_factor(image: UInt8[np.ndarray, "rows cols 3"]) -> float:
    """The whole number by which a small image is enlarged, so that labels are readable."""
    short, long = sorted(max(1, side) for side in image.shape[:2])
    return float(max(1, min(math.ceil(READABLE_PX / short), LARGEST_PX // long)))


def _enlarged(image: UInt8[np.ndarray, "rows cols 3"], factor: float) -> Image.Image:
    picture = Image.fromarray(image)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    same = size == picture.size
    return picture.copy() if same else picture.resize(size, Image.Resampling.LANCZOS)


class _Canvas:
    """A picture being drawn on: box coordinates are those of the image before enlargement."""

    def __init__(self, picture: Image.Image, factor_x: float, factor_y: float):
        self.draw = ImageDraw.Draw(picture)
        self.size = picture.size
        self.factors = np.array([factor_x, factor_y, factor_x, factor_y])
        self.text_px = max(11, min(22, round(min(self.size) / 28)))
        self.line_px = max(2, round(min(self.size) / 130))
        self.taken: list[marks.Rectangle] = []

    def outline(self, box: Float[np.ndarray, "4"], mark: marks.Mark) -> None:
        marks.outline(self.draw, self._pixels(box), mark, self.line_px)

    def label(self, box: Float[np.ndarray, "4"], mark: marks.Mark, text: str) -> None:
        width, height = self.size
        margin = marks.label_size("", self.text_px)[0]
        text = marks.fit_text(f"{mark.sign} {text}", self.text_px, width - margin - 1)
        size = marks.label_size(text, self.text_px)
        if not text or size[1] > height:
            return  # a picture smaller than a letter
        place = marks.place_label(self._pixels(box), size, (width, height), self.taken)
        self.taken.append(place)
        marks.label(self.draw, place, text, mark, self.text_px)

    def _pixels(self, box: Float[np.ndarray, "4"]) -> marks.Rectangle:
        x_min, y_min, x_max, y_max = (round(float(v)) for v in box * self.factors)
        width, height = self.size
        x_min, y_min = max(0, min(x_min, width - 1)), max(0, min(y_min, height - 1))
        return x_min, y_min, max(x_min + 1, min(x_max, width)), max(y_min + 1, min(y_max, height))
