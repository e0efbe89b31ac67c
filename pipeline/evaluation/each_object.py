"""What each object adds to its class's average precision, so that two runs can be laid beside."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipeline.evaluation.matching import DIFFICULT, TRUE, Matches, class_index
from pipeline.evaluation.precision import envelope
from pipeline.evaluation.ranking import best_first, groups
from pipeline.evaluation.tables import TableLike, read_detections, read_ground_truth


@dataclass(frozen=True)
class Reached:
    """How well each object was found, in the row order of the ground truth.

    Attributes:
        precision: the highest precision at its detection's rank or below it, in 0..1; 0 where it
            was missed, nan where it is difficult.
        detections: row of the detection that found it; -1 without one.
    """

    precision: Float[np.ndarray, " objects"]
    detections: Int[np.ndarray, " objects"]


def reached(detections: TableLike, ground_truth: TableLike, matches: Matches) -> Reached:
    """Return at which precision each object is found.

    The mean over a class's objects is its average precision, by `area`: so the difference of two
    runs' APs is the mean of the differences of their objects.

    Args:
        detections: columns ``image_id, class, score`` and the box; see ``tables``.
        ground_truth: columns ``image_id, class``, the box, optionally ``difficult``.
        matches: of these two.

    Raises:
        InputError: a malformed table.

    Source:
        SPEC §11, the area under the falling envelope, taken apart.

    Examples:
        >>> from pipeline.evaluation import match_detections
        >>> truth = [{"image_id": "a", "class": "cat", "box": (k, 0, k + 5, 9)} for k in (0, 9)]
        >>> found = [dict(truth[1], score=0.9)]
        >>> reached(found, truth, match_detections(found, truth)).precision.tolist()
        [0.0, 1.0]
    """
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    precision = np.where(truth.difficult, np.nan, 0.0)
    by = np.full(len(truth.difficult), -1, np.int64)
    index = class_index(found, truth)
    for rows in groups(found.classes.within(index), len(index)):
        ranked = rows[best_first(found.scores[rows])]
        counted = ranked[matches.codes[ranked] != DIFFICULT]
        true = matches.codes[counted] == TRUE
        heights = envelope(np.cumsum(true) / np.arange(1, len(true) + 1))
        objects = matches.objects[counted[true]]
        precision[objects], by[objects] = heights[true], counted[true]
    return Reached(precision, by)
