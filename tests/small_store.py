"""A store of two shards in a fraction of a second, made as a driver makes one."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipeline import index, store
from pipeline.datasets.records import ImageRecord, Object
from pipeline.store.labels import write_labels
from pipeline.store.place import place
from pipeline.store.records import read_record
from pipeline.store.schema import BOX_COLUMNS, SCALARS
from tests import faults

SPEC = store.MapSpec(8.0, 3.5, 1.5, 5, (3, 1), "float16")
VECTOR = store.VectorSpec(50)
SHARDS = {"00000": ("a", "b"), "00001": ("c", "d")}
TORN = "d"  # cannot be read
MADE_FROM = {"network": "none", "layer": "pool5"}


def rows_of(image_id: str) -> pa.Table:
    """The windows of an image, without vectors."""
    count = ord(image_id) % 5 + 1
    word = pa.dictionary(pa.int32(), pa.string())
    columns = {
        "image_id": pa.array([image_id] * count),
        "window_id": pa.array(range(count), pa.int32()),
        **{name: pa.array([7.0 + k] * count, pa.float32()) for k, name in enumerate(BOX_COLUMNS)},
        "scale_px": pa.array([50] * count, pa.int16()),
        "source": pa.array(["grid"] * count).cast(word),
        "split": pa.array(["train"] * count).cast(word),
    }
    return pa.table(columns, schema=pa.schema(SCALARS))


def rows_with_vectors(image_id: str, flavour: int = 0) -> pa.Table:
    """The windows of an image; another flavour has other vectors."""
    rows, random = rows_of(image_id), np.random.default_rng([ord(image_id), flavour])
    vectors = VECTOR.to_arrow(random.normal(size=(len(rows), 50)).astype(np.float16))
    return rows.append_column(VECTOR.schema().field("vector"), vectors)


def write_shard(
    root: store.Place, shard_id: str, maps: bool, flavour: int = 0
) -> store.ShardRecord:
    """Commit one shard; another flavour has other bytes and as many rows."""
    with store.ShardWriter(root, shard_id, VECTOR.schema(), 1, SPEC if maps else None) as writer:
        counts = {}
        for image_id in SHARDS[shard_id]:
            if image_id == TORN:
                continue
            rows = rows_of(image_id) if maps else rows_with_vectors(image_id, flavour)
            if maps:
                random = np.random.default_rng([ord(image_id), flavour])
                whole = torch.from_numpy(random.normal(size=(5, 6, 7)).astype(np.float16))
                writer.write_maps(store.maps_table(image_id, 50, (0.5, 0.5), whole, SPEC))
            writer.write(rows)
            counts[image_id] = len(rows)
        torn = {name: "torn" for name in SHARDS[shard_id] if name == TORN}
        return writer.commit("test", counts, torn, "inputs")


def make(
    root: store.Place, maps: bool = False, tell: Callable[[str], object] = lambda done: None
) -> list[str]:
    """Make a store, or go on with it; return the shards that were made now.

    Each is told of as soon as it is committed, and "finished" in the end.
    """
    store.claim(root, MADE_FROM)
    records = [
        ImageRecord(name, Path(f"{name}.jpg"), 100, 100, (Object("cat", (1.0, 2.0, 3.0, 4.0)),))
        for names in SHARDS.values()
        for name in names
    ]
    write_labels(root, "images.parquet", index.images_table(records, "train"))
    write_labels(root, "objects.parquet", index.objects_table(records, "train"))
    done = store.committed(root)
    made = [shard_id for shard_id in SHARDS if shard_id not in done]
    for shard_id in made:
        if read_record(root, shard_id) is None:  # as an extractor asks
            write_shard(root, shard_id, maps)
        tell(shard_id)
    store.finish(root, list(SHARDS))
    tell("finished")
    return made


def make_with_faults(
    uri: str, maps: bool, script: faults.Script, environment: Mapping[str, str], told: Path
) -> None:
    """Make a store in a process of its own, which may be killed; `told`: file of what it said."""
    os.environ |= {**environment, faults.VARIABLE: json.dumps(script)}
    faults.install_from_environment()
    with told.open("a", buffering=1) as log:
        make(place(uri), maps, lambda done: log.write(f"{done}\n"))
