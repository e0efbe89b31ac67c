"""One shard image by image: its windows held against its objects, and their vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from pipeline.boxes import as_boxes
from pipeline.config import Svm
from pipeline.learning import sampling
from pipeline.store.blocks import Block
from pipeline.store.reader import Store
from pipeline.store.rows import row_groups
from pipeline.store.schema import BOX_COLUMNS, GROUND_TRUTH, box_array, image_slices

Objects = tuple[
    Float[np.ndarray, "_objects 4"], Int[np.ndarray, " _objects"], Bool[np.ndarray, " _objects"]
]
Rows = Int[np.ndarray, " _chosen"]


@dataclass(frozen=True)
class Told:
    """Windows that a person judged, for a training of one class: sorted rows of each shard."""

    yes: Mapping[str, Rows] = field(default_factory=dict)
    no: Mapping[str, Rows] = field(default_factory=dict)


def labelled_images(
    store: Store, shard_id: str, classes: Sequence[str], svm: Svm, told: Told | None = None
) -> Iterator[tuple[int, sampling.Labelled, Block]]:
    """Yield each image of a shard: its first row, its labelled windows, and their vectors.

    Nothing is read but this shard and its images' objects; a row group is held at a time, and of
    vectors in files of this machine no more than is touched.
    """
    objects = objects_by_image(store.objects_of(shard_id), classes, svm.difficult_positives)
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    first, needed = 0, ["image_id", *BOX_COLUMNS, "source"]
    for table, block in row_groups(store.home_of(shard_id), shard_id, needed):
        boxes, truth = box_array(table), is_ground_truth(table)
        for image_id, part in image_slices(table):
            labelled = sampling.label(
                image_id,
                boxes[part],
                truth[part],
                *objects.get(image_id, nothing),
                len(classes),
                svm.negative_iou,
            )
            if told is not None:
                labelled = _as_told(labelled, told, shard_id, first + part.start)
            yield first + part.start, labelled, block[part]
        first += len(table)


def _as_told(
    labelled: sampling.Labelled, told: Told, shard_id: str, first: int
) -> sampling.Labelled:
    """Let what a person said of an image's windows count, whatever the labels say."""
    yes, no = (
        _inside(rows.get(shard_id), first, len(labelled.boxes))[:, None]
        for rows in (told.yes, told.no)
    )
    return replace(
        labelled,
        positive=(labelled.positive & ~no) | yes,
        negative=labelled.negative & ~yes,
        told=no,
    )


def _inside(rows: Rows | None, first: int, count: int) -> Bool[np.ndarray, " windows"]:
    """Return which of some windows, the first of which is row `first`, are among the rows."""
    flags = np.zeros(count, dtype=bool)
    if rows is not None:
        flags[rows[(rows >= first) & (rows < first + count)] - first] = True
    return flags


def is_ground_truth(table: pa.Table) -> Bool[np.ndarray, " windows"]:
    """Return which windows were put in as ground truth."""
    source = table["source"].combine_chunks().dictionary_encode()
    codes = [k for k, word in enumerate(source.dictionary.to_pylist()) if word == GROUND_TRUTH]
    return np.isin(source.indices.to_numpy(), codes)


def lost_classes(store: Store, classes: Sequence[str], difficult: bool) -> set[str]:
    """Return the classes of which nothing can be learnt, for their images were all quarantined.

    Classes that nobody has labelled are none of them: those are likely to be misspelt.

    Args:
        store: of the training images.
        classes: of the recipe.
        difficult: whether difficult objects may be positives.
    """
    quarantined = store.quarantined()
    if not quarantined:
        return set()
    labelled = store.objects
    if not difficult:
        labelled = labelled.filter(~pc.field("difficult"))
    readable = labelled.filter(~pc.field("image_id").isin(list(quarantined)))
    shown, learnt = (set(each["class"].unique().to_pylist()) for each in (labelled, readable))
    return (shown - learnt) & set(classes)


def objects_by_image(
    table: pa.Table, classes: Sequence[str], difficult: bool
) -> dict[str, Objects]:
    """Per image: boxes, class indices, and which objects may be positives."""
    places = {name: k for k, name in enumerate(classes)}
    grouped: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        if row["class"] in places:
            grouped.setdefault(row["image_id"], []).append(row)
    return {
        image_id: (
            as_boxes([[row[name] for name in BOX_COLUMNS] for row in rows]),
            np.array([places[row["class"]] for row in rows]),
            np.array([difficult or not row["difficult"] for row in rows]),
        )
        for image_id, rows in grouped.items()
    }
