"""Two small sets of images with their windows, what extracts them, and the same told plainly."""

import math
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d

from pipeline import images, index, networks, store
from pipeline.config import Features
from pipeline.datasets.records import ImageRecord
from pipeline.extraction import ExtractionSpec, NetworkSpec, ShardExtractor
from pipeline.store import ShardPlan, plan_shards
from pipeline.store.manifest import claim
from pipeline.store.place import place
from pipeline.windows.table import WINDOWS

SIZES = {"a": (90, 70), "b": (67, 101), "c": (83, 83)}
BOXES = {
    "a": [[0, 0, 90, 70], [3.5, 10, 40, 31], [50, 50, 51, 51], [60, 5, 90, 70]],
    "b": [[10, 20, 67, 101]],
    "c": [],
}
OPTIONS = {"width": 0.0625, "fc_units": 24, "levels": (3, 2, 1), "classes": 3}


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Neither a thread, nor another number of torch's threads."""
    threads, before = torch.get_num_threads(), set(threading.enumerate())
    yield
    torch.set_num_threads(threads)
    assert {each for each in threading.enumerate() if not each.daemon} <= before


@pytest.fixture
def dataset(tmp_path):
    """Three photographs' worth of noise, their list and their windows."""
    random = np.random.default_rng(1)
    records, rows = [], []
    for image_id, (width, height) in SIZES.items():
        path = tmp_path / f"{image_id}.jpg"
        pixels = random.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(path, quality=90)
        records.append(ImageRecord(image_id, path, width, height, ()))
        for number, box in enumerate(BOXES[image_id]):
            rows.append([image_id, number, *map(float, box), "grid"])
    columns = [list(column) for column in zip(*rows, strict=True)]
    arrays = [pa.array(c, f.type) for c, f in zip(columns[:6], list(WINDOWS)[:6], strict=True)]
    arrays.append(pa.array(columns[6]).dictionary_encode())
    (tmp_path / "windows").mkdir()
    pq.write_table(pa.table(arrays, schema=WINDOWS), tmp_path / "windows/0.parquet")
    pq.write_table(index.images_table(records, "test"), tmp_path / "images.parquet")
    return tmp_path


@pytest.fixture
def relist(dataset):
    """List the images again: as they are now is how the dataset was read."""

    def listed():
        records = [
            ImageRecord(name, dataset / f"{name}.jpg", *size, ()) for name, size in SIZES.items()
        ]
        pq.write_table(index.images_table(records, "test"), dataset / "images.parquet")

    return listed


@pytest.fixture
def spec(dataset):
    return ExtractionSpec(
        root=place(dataset / "store"),
        network=NetworkSpec("zf5", None, 3, None, OPTIONS),
        features=Features(scales=(96, 140, 280), levels=(3, 2, 1)),
        images=dataset / "images.parquet",
        windows=dataset / "windows",
        split="test",
        made_from="digest",
    )


@pytest.fixture(scope="session")
def boxes():
    """The windows of each image of `dataset`."""
    return BOXES


@pytest.fixture(scope="session")
def extract():
    def run(spec, image_ids=("a", "b", "c")):
        """One shard of these images, opened as a store; and its stats."""
        extractor = ShardExtractor(spec)
        windows = [len(BOXES[name]) for name in image_ids]
        images = pa.table({"image_id": image_ids, "windows": windows, "bytes": [1] * len(windows)})
        (plan,) = plan_shards(images, 1, 10**9, spec.made_from)
        stats = extractor(plan)
        claim(spec.root, {"made": "for a test"})
        pq.write_table(pq.read_table(spec.images), spec.root.path / "images.parquet")
        pq.write_table(index.objects_table([], "test"), spec.root.path / "objects.parquet")
        store.finish(spec.root, [plan.shard_id])
        return store.open(spec.root), stats

    return run


@pytest.fixture(scope="session")
def table_of():
    def read(held):
        return pa.concat_tables(held.scan()).unify_dictionaries()

    return read


@pytest.fixture(scope="session")
def change():
    def changed(spec, **changes):
        """The spec with other features."""
        return replace(spec, features=spec.features.model_copy(update=changes))

    return changed


@pytest.fixture
def twelve(tmp_path):
    """Twelve images of three sizes, with 0, 7 or 14 windows each, some on the same cells."""
    noise = np.random.default_rng(2)
    records, tables = [], []
    for number in range(12):
        image_id, (width, height) = f"{number:02d}", [(90, 70), (70, 90), (80, 80)][number // 2 % 3]
        pixels = noise.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{image_id}.png")
        records.append(ImageRecord(image_id, tmp_path / f"{image_id}.png", width, height, ()))
        count = number * 7 % 21
        corner = noise.integers(0, 3, (count, 2)) * 13
        boxes = np.hstack([corner, corner + noise.integers(1, 4, (count, 2)) * 11])
        columns = [pa.array([image_id] * count, pa.string()), pa.array(range(count), pa.int32())]
        columns += [
            *map(pa.array, boxes.T.astype(np.float32)),
            pa.array(["grid"] * count).dictionary_encode(),
        ]
        tables.append(pa.table(columns, schema=WINDOWS))
    (tmp_path / "windows").mkdir()
    table = pa.concat_tables(tables).unify_dictionaries()
    pq.write_table(table, tmp_path / "windows/0.parquet")
    pq.write_table(index.images_table(records, "test"), tmp_path / "images.parquet")
    return ExtractionSpec(
        root=place(tmp_path / "store"),
        network=NetworkSpec("zf5", None, 3, None, {**OPTIONS, "levels": (2, 1)}),
        features=Features(scales=(96, 140, 280), levels=(2, 1), row_group_bytes=3000, fc_rows=7),
        images=tmp_path / "images.parquet",
        windows=tmp_path / "windows",
        split="test",
        made_from="digest",
        decode_threads=3,
    )


@pytest.fixture(scope="session")
def plans_of():
    def plans(shards):
        """The images of `twelve` in so many shards."""
        names = [f"{number:02d}" for number in range(12)]
        size = 12 // shards
        return [
            ShardPlan(f"{place:05d}", tuple(names[place * size : (place + 1) * size]), 0, 0)
            for place in range(shards)
        ]

    return plans


# --- the same, told plainly ----------------------------------------------------------------------


def cells(box, factors, map_size):
    """SPEC §3 for ZF-5: stride 16, centre 20, shrink 6.5."""
    found = [0, 0, 0, 0]
    for axis in (0, 1):
        low, high = box[axis] * factors[axis], box[axis + 2] * factors[axis] - 1
        first, last = math.floor((low - 13.5) / 16 + 0.5), math.ceil((high - 26.5) / 16 - 0.5)
        if first > last:
            first = last = math.floor((first + last) / 2)
        found[axis], found[axis + 2] = (
            min(max(cell, 0), map_size[axis] - 1) for cell in (first, last)
        )
    return found


def scale_for(box, size, scales):
    area = (box[2] - box[0]) * (box[3] - box[1])
    return min(scales, key=lambda s: (abs(area * s**2 / min(size) ** 2 - 224**2), s))


@pytest.fixture(scope="session")
def plainly():
    @torch.inference_mode()
    def vectors(spec, image_id):
        """(scale, pool5) of each window: resize, network, project, pool; one at a time."""
        network = networks.load("zf5", seed=3, **OPTIONS)
        pixels = np.asarray(Image.open(spec.images.parent / f"{image_id}.jpg"))
        found = []
        for box in BOXES[image_id]:
            scale = scale_for(box, SIZES[image_id], spec.features.scales)
            resized, factors = images.resize(pixels, scale)
            feature_map = network(network.preprocessing.apply(resized)[None])[0]
            x0, y0, x1, y1 = cells(box, factors, (feature_map.shape[2], feature_map.shape[1]))
            part = feature_map[:, y0 : y1 + 1, x0 : x1 + 1]
            bins = [adaptive_max_pool2d(part, n).flatten(1) for n in (3, 2, 1)]
            found.append((scale, torch.cat(bins, dim=1).T.flatten()))
        return found

    return vectors
