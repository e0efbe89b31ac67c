"""A store of windows whose vectors are given, for the tests of the rooms that read one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import index, store
from pipeline.datasets.records import ImageRecord, Object
from pipeline.store.labels import write_labels
from pipeline.store.manifest import claim
from pipeline.store.place import place
from pipeline.store.schema import BOX_COLUMNS, GROUND_TRUTH, VectorSpec


@dataclass(frozen=True)
class Made:
    """One image of a store by hand: its windows, then its objects, and a vector for each."""

    vectors: Any
    windows: Sequence[Sequence[float]] = ()
    objects: tuple[Object, ...] = ()
    size: tuple[int, int] = (100, 100)


@pytest.fixture(scope="session")
def made() -> type[Made]:
    return Made


@pytest.fixture(scope="session")
def shard_rows() -> Callable[..., pa.Table]:
    def rows(spec: VectorSpec, image_id: str, image: Made, split: str = "train") -> pa.Table:
        """The rows of one image, as the extraction writes them."""
        corners = [*image.windows, *(one.box for one in image.objects)]
        boxes = np.array(corners, np.float32).reshape(-1, 4)
        counts = [len(image.windows), len(image.objects)]
        words = np.repeat(["selective_search", GROUND_TRUTH], counts).tolist()
        word = pa.dictionary(pa.int32(), pa.string())
        columns = {
            "image_id": pa.array([image_id] * len(boxes), pa.string()),
            "window_id": pa.array(range(len(boxes)), pa.int32()),
            **{name: pa.array(boxes[:, k].copy()) for k, name in enumerate(BOX_COLUMNS)},
            "scale_px": pa.array([480] * len(boxes), pa.int16()),
            "source": pa.array(words, pa.string()).cast(word),
            "split": pa.array([split] * len(boxes), pa.string()).cast(word),
            "vector": spec.to_arrow(np.asarray(image.vectors, spec.dtype).reshape(-1, spec.length)),
        }
        return pa.table(columns, schema=spec.schema())

    return rows


@pytest.fixture
def make_store(shard_rows: Callable[..., pa.Table]) -> Callable[..., store.Store]:
    def make(
        root: Path | store.Place,
        shards: Sequence[Mapping[str, Made]],
        dim: int,
        dtype: str = "float32",
        layout: str = "binary",
        row_group_bytes: int = 1,
        finished: bool = True,
    ) -> store.Store:
        """A store of one shard a mapping; by default with a row group for each image."""
        spec = VectorSpec(dim, dtype, layout)
        where = place(root)
        claim(where, {"network": "none", "layer": "pool5"})
        for number, images in enumerate(shards):
            with store.ShardWriter(
                where, f"{number:05d}", spec.schema(), row_group_bytes
            ) as writer:
                for image_id, image in images.items():
                    writer.write(shard_rows(spec, image_id, image))
                counts = {k: len(one.windows) + len(one.objects) for k, one in images.items()}
                writer.commit("test", counts, {}, "")
        records = [
            ImageRecord(image_id, Path(f"{image_id}.jpg"), *image.size, image.objects)
            for images in shards
            for image_id, image in images.items()
        ]
        write_labels(where, "images.parquet", index.images_table(records, "train"))
        write_labels(where, "objects.parquet", index.objects_table(records, "train"))
        if finished:
            store.finish(where, [f"{number:05d}" for number in range(len(shards))])
            return store.open(where)
        return store.Store(where)

    return make
