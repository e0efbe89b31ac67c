"""The table of what images are taken for, as `evaluate` keeps it and `report` reads it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int8

from pipeline.evaluation.answers import Answers
from pipeline.store.files import written_aside

PREDICTIONS = "predictions.parquet"


def write_predictions(
    path: Path,
    image_ids: Sequence[str],
    labels: Int8[np.ndarray, "images classes"],
    scores: Float32[np.ndarray, "images classes"],
    classes: Sequence[str],
) -> None:
    """Write a row for each image: what it shows, what it is taken for, and all scores."""
    best = scores.argmax(axis=1)
    names = np.array(classes, object)
    flat = pa.array(scores.astype(np.float32).reshape(-1))
    table = pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "shown": _named(labels > 0, names),
            "hardly": _named(labels == 0, names),
            "taken_for": pa.array(names[best], pa.string()),
            "score": pa.array(scores[np.arange(len(best)), best]),
            "scores": pa.FixedSizeListArray.from_arrays(flat, len(classes)),
        }
    ).replace_schema_metadata({"classes": "\n".join(classes)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        pq.write_table(table, aside)


def read_predictions(path: Path, classes: Sequence[str]) -> Answers:
    """Return what `write_predictions` wrote of these classes."""
    table = pq.read_table(path, columns=["image_id", "shown", "hardly", "scores"])
    labels = np.full((len(table), len(classes)), -1, np.int8)
    column = {name: k for k, name in enumerate(classes)}
    for told, value in (("shown", 1), ("hardly", 0)):
        for row, names in enumerate(table[told].to_pylist()):
            labels[row, [column[name] for name in names]] = value
    flat = table["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    scores = flat.reshape(len(table), len(classes))
    return Answers(table["image_id"].to_pylist(), labels, scores)


def _named(chosen: Bool[np.ndarray, "images classes"], names: np.ndarray) -> pa.Array:
    return pa.array([names[row].tolist() for row in chosen], pa.list_(pa.string()))
