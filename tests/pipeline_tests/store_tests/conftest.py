"""One set of features written both ways: vectors pooled beforehand, and maps to pool from."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import index, spp, store
from pipeline.datasets.records import ImageRecord, Object
from pipeline.learning.classifiers import Classifiers
from pipeline.store.labels import write_labels
from pipeline.store.manifest import claim
from pipeline.store.place import place
from pipeline.store.rows import Vectors
from pipeline.store.schema import box_array
from tests import small_store
from tests.s3 import BUCKET

CAT = Object("cat", (10.0, 10.0, 40.0, 30.0))
DOG = Object("dog", (3.0, 5.0, 90.0, 97.0))
SCALES = (50, 110)  # shorter sides of images of 100 px: stride 8 makes maps of 6 and 13 cells
SHARDS = (("a", "b", "c"), ("d",))
WINDOWS = {"a": 5, "b": 0, "c": 7, "d": 11}


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> store.Place:
    """An empty place of each kind."""
    if request.param == "local":
        return place(tmp_path / "store")
    request.getfixturevalue("s3_server")
    return place(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def files() -> Callable[[store.Place], dict[str, bytes]]:
    def read(root: store.Place) -> dict[str, bytes]:
        """All files of a store, by name."""
        names = [
            f"{folder}/{name}".lstrip("/")
            for folder in ("", "shards", "maps", "records")
            for name in root.listing(folder)
        ]
        return {name: root.read(name) or b"" for name in names}

    return read


def geometry(levels=(3, 1), dtype="float16", channels=5) -> store.MapSpec:
    return store.MapSpec(8.0, 3.5, 1.5, channels, levels, dtype)


def feature_map(image_id: str, scale_px: int, spec: store.MapSpec) -> torch.Tensor:
    """What a network would give, before it is narrowed: half of it zeros, as after a ReLU."""
    cells = scale_px // 8
    random = np.random.default_rng([ord(image_id), scale_px])
    values = random.normal(size=(spec.channels, cells, cells + 1)).astype(np.float32)
    return torch.from_numpy(values).clamp(min=0)


@pytest.fixture
def image_rows(made: Any, shard_rows: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
    def rows(image_id: str, spec: store.MapSpec, vector: store.VectorSpec) -> pa.Table:
        """An image's rows with vectors pooled in float32, then narrowed."""
        random = np.random.default_rng(ord(image_id))
        corners = random.integers(0, 60, (WINDOWS[image_id], 2))
        windows = np.hstack([corners, corners + random.integers(1, 40, corners.shape)]).tolist()
        objects = {"a": (CAT,), "d": (DOG, CAT)}.get(image_id, ())
        count = len(windows) + len(objects)
        scales = random.choice(SCALES, count).astype(np.int16)
        empty = np.zeros((count, vector.length))
        table = shard_rows(vector, image_id, made(empty, windows, objects))
        boxes, pooled = box_array(table), torch.zeros(count, vector.length)
        for scale_px in SCALES:
            whole = feature_map(image_id, scale_px, spec)
            size = (whole.shape[2], whole.shape[1])
            factors = np.array([scale_px / 100, scale_px / 130] * 2)
            cells = spp.project(boxes[scales == scale_px] * factors, spec, size)
            pooled[scales == scale_px] = spp.pool(whole, cells, spec.levels)
        table = table.set_column(6, table.schema.field("scale_px"), pa.array(scales))
        column = vector.to_arrow(pooled.numpy().astype(vector.dtype))
        return table.set_column(9, table.schema.field("vector"), column)

    return rows


def map_tables(image_id: str, spec: store.MapSpec) -> list[pa.Table]:
    tables = []
    for scale_px in SCALES:
        narrowed = feature_map(image_id, scale_px, spec).to(getattr(torch, spec.dtype))
        factors = (scale_px / 100, scale_px / 130)
        tables.append(store.maps_table(image_id, scale_px, factors, narrowed, spec))
    return tables


@pytest.fixture
def make_both(image_rows: Callable[..., pa.Table], tmp_path: Path) -> Callable[..., Any]:
    def make(
        spec: store.MapSpec | None = None, layout: str = "binary", row_group_bytes: int = 400
    ) -> tuple[store.Store, store.Store]:
        """The same four images in two shards, as `windows` and as `maps`."""
        spec = spec or geometry()
        vector = store.VectorSpec(spec.vector_length, spec.dtype, layout)
        objects = {"a": (CAT,), "d": (DOG, CAT)}
        records = [
            ImageRecord(one, Path(f"{one}.jpg"), 100, 101, objects.get(one, ())) for one in WINDOWS
        ]
        stores, folder = [], tmp_path / uuid.uuid4().hex
        for kind in ("windows", "maps"):
            root = place(folder / kind)
            claim(root, {"network": "none", "features": {"store": kind}})
            write_labels(root, "images.parquet", index.images_table(records, "train"))
            write_labels(root, "objects.parquet", index.objects_table(records, "train"))
            maps = spec if kind == "maps" else None
            for number, images in enumerate(SHARDS):
                shard_id = f"{number:05d}"
                with store.ShardWriter(
                    root, shard_id, vector.schema(), row_group_bytes, maps
                ) as writer:
                    counts = {}
                    for image_id in images:
                        rows = image_rows(image_id, spec, vector)
                        counts[image_id] = len(rows)
                        writer.write(rows if maps is None else rows.drop_columns("vector"))
                        for table in map_tables(image_id, spec) if maps else ():
                            writer.write_maps(table)
                    writer.commit("test", counts, {}, "inputs")
            store.finish(root, ["00000", "00001"])
            stores.append(store.open(root))
        return stores[0], stores[1]

    return make


@pytest.fixture
def both(make_both: Callable[..., Any]) -> tuple[store.Store, store.Store]:
    return make_both()


@pytest.fixture
def held(both: tuple[store.Store, store.Store]) -> store.Store:
    """The store of maps."""
    return both[1]


@pytest.fixture
def begun() -> Callable[..., store.ShardWriter]:
    def begin(root: Path | store.Place) -> store.ShardWriter:
        """A shard of maps, `s`, of which nothing is written yet."""
        return store.ShardWriter(place(root), "s", store.VectorSpec(50).schema(), 1, geometry())

    return begin


@pytest.fixture
def one_map() -> Callable[..., pa.Table]:
    def make(image_id: str = "a", scale_px: int = 50, cells: int = 6) -> pa.Table:
        whole = torch.zeros(5, cells, cells, dtype=torch.float16)
        return store.maps_table(image_id, scale_px, (0.5, 0.5), whole, geometry())

    return make


@pytest.fixture
def stored(tmp_path: Path) -> store.Store:
    """Twelve rows with vectors in two shards: a0 a1 a2, b0 to b3, c0 to c4."""
    small_store.make(place(tmp_path))
    return store.open(tmp_path)


@pytest.fixture
def scanned() -> Callable[[store.Store], np.ndarray]:
    def read(held: store.Store) -> np.ndarray:
        """All vectors of a store, in order."""
        tables = held.scan(["vector"])
        return np.concatenate([store.vectors(table) for table in tables]).astype(np.float64)

    return read


@pytest.fixture
def known() -> Callable[..., Classifiers]:
    def make(
        *names: str, seed: int = 0, made_from: Mapping[str, object] | None = None
    ) -> Classifiers:
        """Classifiers of vectors of such a store."""
        random = np.random.default_rng(seed)
        weights = random.normal(size=(len(names), 50)).astype(np.float32)
        intercepts = random.normal(size=len(names)).astype(np.float32)
        return Classifiers(names, weights, intercepts, 0.25, dict(made_from or {}))

    return make


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows whose vectors were read, in the order they were."""
    read, original = list[int](), Vectors.parts

    def parts(self: Vectors, rows: np.ndarray) -> Any:
        read.extend(rows.tolist())
        return original(self, rows)

    monkeypatch.setattr(Vectors, "parts", parts)
    return read
