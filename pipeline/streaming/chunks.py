"""A model's answers about a few listed images: a task of its own, whose results stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import images
from pipeline.config import digest
from pipeline.model import Model, loaded
from pipeline.store.files import read_json, write_json, written_aside
from pipeline.store.schema import CLASSES, DETECTIONS
from pipeline.streaming.listing import Listed, reach


@dataclass(frozen=True)
class ChunkSpec:
    """What a task needs to answer about some images."""

    folder: Path
    """Of the model."""
    digest: str
    """Of the model."""
    destination: Path
    """The Parquet file of answers; beside it, `.json`, sizes and reasons."""
    images: tuple[Listed, ...]
    top: int = 0
    """Of a classifier: the classes of an image that are kept, best first; 0: all."""


@dataclass(frozen=True)
class ChunkStats:
    """What `answer_chunk` did."""

    images: int
    answers: int


def chunk_name(model: str, images: Sequence[Listed], top: int = 0) -> str:
    """Return what names the work of a chunk: the model's digest, and the images as they are."""
    listed = [[each.image_id, each.place, each.state] for each in images]
    return digest(model, listed, *([top] if top else []))[:32]


def answer_chunk(spec: ChunkSpec) -> ChunkStats:
    """Ask a model, which each process reads once, about some images.

    What is no image is noted with its reason. A file that is gone, or not seen by this machine,
    is no such thing: it may be there for others.

    Raises:
        UnreachableError: an image cannot be read.
        InputError: the model is not what it was.
    """
    model = loaded(spec.folder, spec.digest)
    tables = [schema_of(model).empty_table()]
    sizes: dict[str, tuple[int, int]] = {}
    reasons: dict[str, str] = {}
    for each in spec.images:
        if not each.state:
            reasons[each.image_id] = (
                f"{each.place} is a link that leads to no file of its folder: name the file itself"
            )
            continue
        try:
            table, sizes[each.image_id] = _answer(model, reach(each), each.image_id, spec.top)
            tables.append(table)
        except images.UndecodableImage as error:
            reasons[each.image_id] = str(error)
    found = pa.concat_tables(tables)
    write_json(spec.destination.with_suffix(".json"), {"sizes": sizes, "reasons": reasons})
    with written_aside(spec.destination) as aside:
        pq.write_table(found, aside)
    return ChunkStats(len(sizes), len(found))


def schema_of(model: Model) -> pa.Schema:
    """Return what a model's answers look like: `DETECTIONS` or `CLASSES`."""
    return DETECTIONS if model.described.task == "detection" else CLASSES


def _answer(model: Model, data: bytes, image_id: str, top: int) -> tuple[pa.Table, tuple[int, int]]:
    if model.described.task == "detection":
        return model.detect(data, image_id)
    scores, size = model.classify(data, image_id)
    order = np.argsort(-scores, kind="stable")[: top or None]
    names = [model.classes[k] for k in order]
    columns = [[image_id] * len(order), names, scores[order]]
    return pa.table(columns, schema=CLASSES), size


def is_done(destination: Path) -> bool:
    """Return whether a chunk was answered."""
    return destination.is_file() and destination.with_suffix(".json").is_file()


@dataclass(frozen=True)
class Found:
    """What all chunks came to."""

    answers: pa.Table
    """Image after image, in order: detections, or classes, each image's best first."""
    sizes: dict[str, tuple[int, int]]
    """Width and height of each image that could be read."""
    reasons: dict[str, str]
    """Why the others could not."""


def read_chunks(destinations: Sequence[Path], schema: pa.Schema = DETECTIONS) -> Found:
    """Return what chunks left.

    Args:
        destinations: of the chunks.
        schema: of their answers.
    """
    sizes: dict[str, tuple[int, int]] = {}
    reasons: dict[str, str] = {}
    for path in destinations:
        held = read_json(path.with_suffix(".json")) or {"sizes": {}, "reasons": {}}
        sizes |= {name: (size[0], size[1]) for name, size in held["sizes"].items()}
        reasons |= held["reasons"]
    tables = [pq.read_table(path, schema=schema) for path in destinations]
    return Found(pa.concat_tables([schema.empty_table(), *tables]), sizes, reasons)
