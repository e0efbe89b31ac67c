"""Which windows a page shows of each class.

The best hits; the false detections of each kind that scored highest, which are what spoils AP; and
the missed objects, the largest first, which should have been easy.
"""

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from jaxtyping import Float

from pipeline.boxes import area
from pipeline.boxes import iou as iou_of
from pipeline.evaluation import KINDS, Matches, detection_kinds
from pipeline.evaluation.diagnosis import NEAR, OTHER, RIGHT, SIMILAR
from pipeline.evaluation.ranking import best_first, groups
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    Labels,
    TableLike,
    read_detections,
    read_ground_truth,
)
from pipeline.report.page.content import Box
from pipeline.report.page.thumbnails import MOST_CLASSES, SPARE, Chosen, Corners, Shown

BOXES = {"true": "right", "false": "wrong", "missed": "missed", "object": "labelled"}
"""What a box on a thumbnail is."""
BEST, OF_A_KIND, MISSED = 8, 4, 8  # thumbnails of a class
CONTEXT = 0.35  # of the longer side of what it shows, around it
BEST_HITS, MISSED_OBJECTS = "Best hits", "Missed objects"
TITLES = {
    "localisation": "Wrong: badly placed, or found twice",
    "similar class": "Wrong: a similar class",
    "other class": "Wrong: another class",
    "background": "Wrong: background",
}


def choose(
    detections: TableLike,
    ground_truth: TableLike,
    matches: Matches,
    *,
    classes: Sequence[str],
    similar: Collection[Collection[Hashable]] = (),
) -> dict[str, list[Chosen]]:
    """Return what is shown of each class; of very many classes the first ones.

    Args:
        detections: as for `evaluate_detections`.
        ground_truth: likewise.
        matches: of these two.
        classes: in their order.
        similar: sets of classes that look alike.

    Raises:
        InputError: a malformed table.
    """
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    kinds = detection_kinds(detections, ground_truth, matches, similar)
    scene = _Scene(found, truth, similar)
    order = best_first(found.scores)
    index = {name: k for k, name in enumerate(found.classes.names)}
    by_class = groups(found.classes.codes[order], len(index))
    chosen: dict[str, list[Chosen]] = {}
    for name in classes[:MOST_CLASSES]:
        mine = order[by_class[index[name]]] if name in index else np.zeros(0, np.int64)

        def detected(title: str, kind: int, most: int, mine=mine, name=name) -> Chosen:
            rows = mine[kinds[mine] == kind]
            shown = [scene.detection(row, name, kind) for row in rows[: SPARE * most].tolist()]
            return Chosen(title, shown, most, len(rows))

        wanted = (scene.of_truth == name) & ~truth.difficult & ~matches.found
        missed = np.flatnonzero(wanted)
        largest = missed[np.argsort(-area(scene.boxes[missed]), kind="stable")]
        shown = [scene.missed(row) for row in largest[: SPARE * MISSED].tolist()]
        held = [
            detected(BEST_HITS, RIGHT, BEST),
            *(detected(TITLES[kind], k, OF_A_KIND) for k, kind in enumerate(KINDS)),
            Chosen(MISSED_OBJECTS, shown, MISSED, len(missed)),
        ]
        chosen[name] = [each for each in held if each.shown]
    return chosen


class _Scene:
    """Detections and objects, and what to draw around one of them."""

    def __init__(
        self,
        found: Detections,
        truth: GroundTruth,
        similar: Collection[Collection[Hashable]],
    ) -> None:
        self._found, self._truth, self._similar = found, truth, similar
        self.boxes = truth.boxes.astype(np.float64)
        self.of_truth = _named(truth.classes)
        by_image = groups(truth.images.codes, len(truth.images.names))
        self._objects = dict(zip(truth.images.names, by_image, strict=True))

    def detection(self, row: int, name: str, kind: int) -> Shown:
        """Show a detection of a class, and the objects that make it what it is.

        These are what it overlaps of its own class, or where it is taken for another class, what
        it overlaps most of such.
        """
        image_id = self._found.images.names[self._found.images.codes[row]]
        box = self._found.boxes[row].astype(np.float64)
        near = self._objects.get(image_id, np.zeros(0, np.int64))
        overlaps = iou_of(box[None], self.boxes[near])[0]
        told = f"{self._found.scores[row]:.2f}"
        if kind in (SIMILAR, OTHER):
            taken = np.array([self._is_kind(kind, name, each) for each in self.of_truth[near]])
            drawn = near[[int(np.argmax(np.where(taken, overlaps, -1)))]]
            told = f"{told}, {self.of_truth[drawn[0]]}"
        else:
            own = (self.of_truth[near] == name) & (overlaps > 0)
            drawn, best = near[own], float(overlaps[own].max(initial=0))
            told = f"{told}, IoU {best:.2f}" if best >= NEAR else told
        objects = [Box(_corners(self.boxes[each]), "object") for each in drawn]
        mine = Box(_corners(box), "true" if kind == RIGHT else "false")
        return Shown(image_id, around(mine.corners), (*objects, mine), told)

    def _is_kind(self, kind: int, name: str, other: Hashable) -> bool:
        alike = any(name in group and other in group for group in self._similar)
        return other != name and (alike or kind == OTHER)

    def missed(self, row: int) -> Shown:
        """Show an object that no detection found."""
        image_id = self._truth.images.names[self._truth.images.codes[row]]
        box = Box(_corners(self.boxes[row]), "missed")
        x_min, y_min, x_max, y_max = box.corners
        size = f"{x_max - x_min:.0f}×{y_max - y_min:.0f} px"
        return Shown(image_id, around(box.corners), (box,), size)


def _named(labels: Labels) -> np.ndarray:
    """Return each row's name."""
    if not len(labels.codes):
        return np.zeros(0, object)
    return np.array(labels.names, object)[labels.codes]


def _corners(box: Float[np.ndarray, " 4"]) -> Corners:
    x_min, y_min, x_max, y_max = box.tolist()
    return x_min, y_min, x_max, y_max


def around(box: Corners) -> Corners:
    """Return a box with some of what is around it."""
    margin = CONTEXT * max(box[2] - box[0], box[3] - box[1])
    return box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin
