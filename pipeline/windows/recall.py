"""How many objects the windows can reach at all: the bound of everything that comes after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.boxes import iou
from pipeline.datasets.records import ImageRecord


@dataclass(frozen=True)
class WindowRecall:
    """Recall of a set of windows.

    Attributes:
        by_threshold: Share of the objects whose best window has at least this IoU, by threshold;
            NaN where there is no object.
        objects: How many objects were looked for.
        windows_per_image: Mean over all images.
    """

    by_threshold: Mapping[float, float]
    objects: int
    windows_per_image: float


def recall(
    windows_by_image: Mapping[str, ArrayLike],
    records: Sequence[ImageRecord],
    thresholds: Sequence[float] = (0.5, 0.7),
    *,
    include_difficult: bool = False,
) -> WindowRecall:
    """Measure which share of the objects some window covers.

    Args:
        windows_by_image: SPEC §1 boxes `[windows 4]` by image id; an image that is absent has none.
        records: The images to look at.
        thresholds: A window covers an object from this IoU on.
        include_difficult: Look for difficult objects too.

    Returns:
        The recall at each threshold, and the counts behind it.
    """
    best: list[np.ndarray] = [np.zeros(0)]
    counts: list[int] = []
    for record in records:
        windows = np.asarray(windows_by_image.get(record.image_id, ()), dtype=np.float32)
        windows = windows.reshape(-1, 4)
        counts.append(len(windows))
        wanted = [include_difficult or not one.difficult for one in record.objects]
        overlaps = np.asarray(iou(record.boxes[wanted], windows))
        best.append(overlaps.max(axis=1, initial=0.0))
    all_best = np.concatenate(best)
    shares = {
        one: float(np.mean(all_best >= one)) if all_best.size else np.nan for one in thresholds
    }
    return WindowRecall(shares, all_best.size, float(np.mean(counts)) if counts else 0.0)
