"""Several models' scored windows to one set of detections (paper §4.4).

What goes in is what each model would suppress among: of each image and class its best windows,
moved by its box regression if it has one. All are pooled, and suppressed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.boxes import nms
from pipeline.store.files import written_aside
from pipeline.store.reader import Store
from pipeline.store.schema import DETECTIONS, box_array


@dataclass(frozen=True)
class CombineSpec:
    """What a task needs to combine the scored windows of some images."""

    store: Store
    """Of the first model's test images: its shards are the units of work."""
    scored: tuple[tuple["Span", ...], ...]
    """Of each model its scored windows, tables of `DETECTIONS`."""
    nms_iou: float


@dataclass(frozen=True)
class Span:
    """A table, and the first and last image that it is about."""

    path: Path
    first: str
    last: str


@dataclass(frozen=True)
class CombineStats:
    """What `combine_shard` wrote."""

    images: int
    windows: int
    """Scored, of all models."""
    detections: int


def combine(scored: Sequence[pa.Table], nms_iou: float) -> pa.Table:
    """Return the detections of several models' scored windows.

    Args:
        scored: of each model, of the same images; of equal scores the earlier model's wins.
        nms_iou: windows that overlap a better one of their class by more are dropped.

    Returns:
        By image, then by class; best first.
    """
    pooled = pa.concat_tables(scored).combine_chunks()
    images, classes = (
        pooled[name].to_numpy(zero_copy_only=False).astype(object) for name in ("image_id", "class")
    )
    scores, boxes = pooled["score"].to_numpy(), box_array(pooled)
    # Stable: of equal scores the earlier model's comes first.
    order = np.lexsort((np.arange(len(scores)), classes, images))
    kept = [np.zeros(0, np.int64)]
    for part in _alike(images[order], classes[order]):
        own = order[part]
        kept.append(own[nms(boxes[own], scores[own], nms_iou)])
    return pooled.take(pa.array(np.concatenate(kept)))


def combine_shard(spec: CombineSpec, shard_id: str, destination: Path) -> CombineStats:
    """Combine what was scored in one shard's images, and write a table of `DETECTIONS`."""
    images = spec.store.images_of(shard_id)["image_id"].combine_chunks()
    tables = [_read(model, images) for model in spec.scored]
    found = combine(tables, spec.nms_iou)
    with written_aside(destination / f"{shard_id}.parquet") as aside:
        pq.write_table(found, aside)
    return CombineStats(len(images), sum(map(len, tables)), len(found))


def spans(folder: Path) -> tuple[Span, ...]:
    """Return the tables of a folder. Read once: each task opening all would cost tasks × tables."""
    found = []
    for path in sorted(folder.glob("*.parquet")):
        images = pq.read_table(path, columns=["image_id"])["image_id"]
        if len(images):
            ends = pc.min_max(images).as_py()  # pyright: ignore[reportAttributeAccessIssue]
            found.append(Span(path, ends["min"], ends["max"]))
    return tuple(found)


def _read(model: Sequence[Span], images: pa.Array) -> pa.Table:
    if not len(images):
        return DETECTIONS.empty_table()
    ends = pc.min_max(images).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    near = [each for each in model if each.first <= ends["max"] and ends["min"] <= each.last]
    own = [("image_id", "in", images.to_pylist())]
    tables = [pq.read_table(each.path, schema=DETECTIONS, filters=own) for each in near]
    return pa.concat_tables([DETECTIONS.empty_table(), *tables])


def _alike(images: np.ndarray, classes: np.ndarray) -> list[slice]:
    """Return where windows of one image and class stand."""
    changes = (images[1:] != images[:-1]) | (classes[1:] != classes[:-1])
    ends = [*(np.flatnonzero(changes) + 1).tolist(), len(images)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
