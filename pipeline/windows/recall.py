"""How many objects the windows can reach at all: the bound of everything that comes after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float
from numpy.typing import ArrayLike

from pipeline.boxes import iou
from pipeline.datasets.records import ImageRecord
from pipeline.errors import InputError
from pipeline.store.schema import GROUND_TRUTH, box_array, image_slices


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


def window_ious(folder: Path, objects: pa.Table) -> Float[np.ndarray, " objects"]:
    """Return the highest IoU of each object with a window; 0 where its image has none.

    Args:
        folder: of tables of `pipeline.windows.table.WINDOWS`; one is held at a time.
        objects: rows of `pipeline.index.OBJECTS`.

    Raises:
        InputError: the folder is not there.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder of windows {folder}: run the recipe again")
    boxes, best = box_array(objects), np.zeros(len(objects))
    rows: dict[str, list[int]] = {}
    for row, image_id in enumerate(objects["image_id"].to_pylist()):
        rows.setdefault(image_id, []).append(row)
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file)
        source = table["source"].cast(pa.string())
        table = table.filter(pc.not_equal(source, GROUND_TRUTH))  # pyright: ignore[reportAttributeAccessIssue]
        windows = box_array(table)
        for image_id, part in image_slices(table):
            own = rows.get(image_id, [])
            best[own] = iou(boxes[own], windows[part]).max(axis=1, initial=0.0)
    return best
