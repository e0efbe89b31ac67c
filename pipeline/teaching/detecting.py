"""Detections of what a store was taught, kept beside the classifier that made them."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import machine
from pipeline.config import Detection, digest
from pipeline.detection import DetectSpec, detect_shard, read_detections
from pipeline.learning.classifiers import Classifiers
from pipeline.store.footers import plain_footer
from pipeline.store.identity import store_digest
from pipeline.store.place import Place
from pipeline.store.reader import Store
from pipeline.teaching.shelf import Shelf
from pipeline.teaching.versioning import Version, require_newest_on
from pipeline.threads import torch_threads


@dataclass(frozen=True)
class Detected:
    """What the newest classifier of a class finds in a store."""

    class_: str
    version: Version
    table: pa.Table
    """`pipeline.store.schema.DETECTIONS`."""
    kept: str
    """Where."""


def kept_detections(store: Store, settings: Detection) -> str:
    """Return the name, in a version's folder, under which its detections in a store are kept."""
    made_from = digest(store_digest(store), settings.model_dump(mode="json"))
    return f"detections/{made_from[:16]}.parquet"


def detect_taught(
    shelf: Shelf, store: Store, classes: Sequence[str], settings: Detection
) -> list[Detected]:
    """Return the detections of some classes, each by its newest classifier of such vectors.

    They are computed in one pass over the store, unless they are kept already.

    Raises:
        InputError: the shelf has no such classifier, or it was trained on other vectors.
    """
    name = kept_detections(store, settings)
    wanted = [
        (class_, require_newest_on(shelf, class_, store)) for class_ in dict.fromkeys(classes)
    ]
    tables = [read_kept(version, name) for _, version in wanted]
    if any(table is None for table in tables):
        found = _detect(store, wanted, settings)
        tables = [found.filter(pc.field("class") == class_) for class_, _ in wanted]
        for (_, version), table in zip(wanted, tables, strict=True):
            _keep(version.root, name, table)
    known = zip(wanted, tables, strict=True)
    return [
        Detected(class_, version, table, f"{version.root}/{name}")
        for (class_, version), table in known
        if table is not None
    ]


def read_kept(version: Version, name: str) -> pa.Table | None:
    """Return what was detected before; None where nothing was, or it is torn."""
    data = version.root.read(name)
    try:
        if data is None:
            return None
        plain_footer(pa.BufferReader(data))
        return pq.read_table(pa.BufferReader(data))
    except pa.ArrowException:
        return None


def _detect(store: Store, wanted: Sequence[tuple[str, Version]], settings: Detection) -> pa.Table:
    """Detect all classes in one pass over the store."""
    with tempfile.TemporaryDirectory(prefix="spp-detect-") as aside, torch_threads(1):
        folder = Path(aside)
        _together(wanted).save(folder / "classifiers")
        spec = DetectSpec(store, folder / "classifiers", settings)
        work = partial(detect_shard, spec, destination=folder / "detections")
        ids = [entry.shard_id for entry in store.shards]
        with ThreadPoolExecutor(machine.cpus(), thread_name_prefix="detect") as pool:
            list(pool.map(work, ids))
        return read_detections(folder / "detections")


def _together(wanted: Sequence[tuple[str, Version]]) -> Classifiers:
    """Return classifiers of several classes as one set: each has a scale of its own."""
    held = [version.classifiers for _, version in wanted]
    return Classifiers(
        tuple(class_ for class_, _ in wanted),
        np.concatenate([one.weights[:1] * np.float32(one.scale) for one in held]),
        np.concatenate([one.intercepts[:1] for one in held]),
        1.0,
        held[0].made_from,
    )


def _keep(root: Place, name: str, table: pa.Table) -> None:
    with root.spool(name) as aside:
        pq.write_table(table, aside)
        root.bring(aside, name)
