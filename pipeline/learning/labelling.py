"""One shard image by image: its windows held against its objects, and their vectors."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from pipeline.boxes import as_boxes
from pipeline.config import Svm
from pipeline.learning import sampling
from pipeline.store.reader import Store
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, GROUND_TRUTH, box_array, image_slices, vectors

Objects = tuple[
    Float[np.ndarray, "_objects 4"], Int[np.ndarray, " _objects"], Bool[np.ndarray, " _objects"]
]


def labelled_images(
    store: Store, shard_id: str, classes: Sequence[str], svm: Svm
) -> Iterator[tuple[int, sampling.Labelled, Float[np.ndarray, "windows dim"]]]:
    """Yield each image of a shard: its first row, its labelled windows, and their vectors.

    Nothing is read but this shard and its images' objects; a row group is held at a time.
    """
    objects = _objects(store.objects_of(shard_id), classes, svm.difficult_positives)
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    first = 0
    for table in scan_shard(store, shard_id, ["image_id", *BOX_COLUMNS, "source", "vector"]):
        held, boxes, truth = vectors(table), box_array(table), is_ground_truth(table)
        for image_id, part in image_slices(table):
            labelled = sampling.label(
                image_id,
                boxes[part],
                truth[part],
                *objects.get(image_id, nothing),
                len(classes),
                svm.negative_iou,
            )
            yield first + part.start, labelled, held[part]
        first += len(table)


def is_ground_truth(table: pa.Table) -> Bool[np.ndarray, " windows"]:
    """Return which windows were put in as ground truth."""
    source = table["source"].combine_chunks().dictionary_encode()
    codes = [k for k, word in enumerate(source.dictionary.to_pylist()) if word == GROUND_TRUTH]
    return np.isin(source.indices.to_numpy(), codes)


def _objects(table: pa.Table, classes: Sequence[str], difficult: bool) -> dict[str, Objects]:
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
