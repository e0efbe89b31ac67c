"""Which windows fine-tuning learns from, and as what (SPEC §9).

A table a shard, small: no vector is in it.

| column | type | |
|---|---|---|
| row | int32 | place of the window in its shard |
| label | int16 | 0: background; otherwise 1 + the place of the class |
| held | bool | whether its image is held out: it measures, and trains nothing |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from pipeline.boxes import iou
from pipeline.config import Finetune
from pipeline.learning import sampling
from pipeline.learning.labelling import Objects, objects_by_image
from pipeline.store.files import written_aside
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, box_array, image_slices

HELD = 4  # purpose of the choice of images that are held out
UNUSED, BACKGROUND = -1, 0


@dataclass(frozen=True)
class RowStats:
    """How many windows of a shard are what."""

    positives: int
    background: int
    held_positives: int
    held_background: int


@dataclass(frozen=True)
class Rows:
    """Windows to draw from, by their number through all shards of all stores."""

    positives: Int[np.ndarray, " positives"]
    labels: Int[np.ndarray, " positives"]
    background: Int[np.ndarray, " background"]


def label_windows(
    boxes: Float[np.ndarray, "windows 4"], objects: Objects, settings: Finetune
) -> Int[np.ndarray, " windows"]:
    """Return what each window of an image is: a class from 1, `BACKGROUND`, or `UNUSED`.

    A window is of the object that it overlaps most, of any class and of equals the first; ground
    truth windows are windows like others. One whose object is not learnt from is not used.

    Args:
        boxes: the windows.
        objects: boxes, classes, and whether each is learnt from.
        settings: the limits of overlap.

    Source:
        Girshick et al., R-CNN, appendix A; He et al., §4.1; SPEC §9.
    """
    object_boxes, classes, counts = objects
    overlaps = iou(boxes, object_boxes)
    if not overlaps.size:
        return np.full(len(boxes), UNUSED)
    best, most = overlaps.argmax(axis=1), overlaps.max(axis=1)
    labels = np.where(counts[best], classes[best] + 1, UNUSED)
    far = np.where(most >= settings.background_iou, BACKGROUND, UNUSED)
    return np.where(most >= settings.positive_iou, labels, far)


def label_shard(
    store: Store,
    classes: Sequence[str],
    difficult: bool,
    settings: Finetune,
    seed: int,
    shard_id: str,
    path: Path,
) -> RowStats:
    """Write the table of one shard; no vector is read."""
    objects = objects_by_image(store.objects_of(shard_id), classes, difficult)
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    labels, held = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for table in scan_shard(store, shard_id, ["image_id", *BOX_COLUMNS]):
        boxes = box_array(table)
        for image_id, part in image_slices(table):
            of_image = label_windows(boxes[part], objects.get(image_id, nothing), settings)
            labels.append(of_image)
            chance = sampling.image_random(image_id, seed, HELD).random()
            held.append(np.full(len(of_image), chance < settings.held_out))
    label, out = np.concatenate(labels), np.concatenate(held)
    used = np.flatnonzero(label != UNUSED)
    columns = {
        "row": used.astype(np.int32),
        "label": label[used].astype(np.int16),
        "held": out[used],
    }
    with written_aside(path) as aside:
        pq.write_table(pa.table(columns), aside)
    positive, out = label[used] > BACKGROUND, out[used]
    return RowStats(
        int((positive & ~out).sum()),
        int((~positive & ~out).sum()),
        int((positive & out).sum()),
        int((~positive & out).sum()),
    )


def read_rows(stores: Sequence[Vectors], paths: Sequence[Sequence[Path]], *, held: bool) -> Rows:
    """Return the windows that train, or those held out.

    Args:
        stores: whose rows are numbered one store after the other.
        paths: of each store the tables of its shards, in the manifest's order.
        held: which of the two.
    """
    numbers, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    offset = 0
    for vectors, tables in zip(stores, paths, strict=True):
        for first, path in zip(vectors.first.tolist(), tables, strict=False):
            table = pq.read_table(path, filters=[("held", "==", held)])
            numbers.append(offset + first + table["row"].to_numpy().astype(np.int64))
            labels.append(table["label"].to_numpy().astype(np.int64))
        offset += len(vectors)
    number, label = np.concatenate(numbers), np.concatenate(labels)
    positive = label > BACKGROUND
    return Rows(number[positive], label[positive], number[~positive])
