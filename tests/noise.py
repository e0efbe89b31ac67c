"""A small data set of noise, what extracts it, and what there is in the end."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import config, index, store
from pipeline.datasets.records import ImageRecord
from pipeline.extraction import ExtractionSpec, NetworkSpec
from pipeline.store import ShardPlan
from pipeline.store.labels import by_image, read_labels, write_labels
from pipeline.store.place import place
from pipeline.windows.table import WINDOWS


def dataset(folder: Path) -> ExtractionSpec:
    """Twelve images of noise with seven windows each, and what extracts them."""
    noise, records, tables = np.random.default_rng(5), [], []
    for number in range(12):
        image_id = f"{number:02d}"
        pixels = noise.integers(0, 255, (70, 90, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        # The last one is quarantined: it is not what its annotation says.
        width = 91 if number == 11 else 90
        records.append(ImageRecord(image_id, folder / f"{image_id}.png", width, 70, ()))
        corner = noise.integers(0, 3, (7, 2)) * 13
        boxes = np.hstack([corner, corner + noise.integers(1, 4, (7, 2)) * 11]).astype(np.float32)
        columns = [
            pa.array([image_id] * 7),
            pa.array(range(7), pa.int32()),
            *map(pa.array, boxes.T),
        ]
        columns.append(pa.array(["grid"] * 7).dictionary_encode())
        tables.append(pa.table(columns, schema=WINDOWS))
    (folder / "windows").mkdir()
    pq.write_table(pa.concat_tables(tables).unify_dictionaries(), folder / "windows/0.parquet")
    pq.write_table(index.images_table(records, "train"), folder / "images.parquet")
    options = {"width": 0.0625, "fc_units": 24, "levels": (2, 1), "classes": 3}
    return ExtractionSpec(
        place(folder / "store"),
        NetworkSpec("zf5", None, 3, None, options),
        config.Features(scales=(96, 140), levels=(2, 1)),
        folder / "images.parquet",
        folder / "windows",
        "train",
        "digest",
    )


def finished(spec: ExtractionSpec, plans: Sequence[ShardPlan]) -> dict[str, str]:
    """Finish the store, and return the digests of all its files by name."""
    root = spec.root
    store.claim(root, {"made": "for a test"})
    images = by_image(read_labels(place(spec.images.parent), spec.images.name))
    write_labels(root, "images.parquet", images)
    write_labels(root, "objects.parquet", index.objects_table([], "train"))
    done = sum(len(plan.image_ids) for plan in plans)
    store.finish(root, [plan.shard_id for plan in plans], spec.made_from, done)
    store.gc(root, remove=True, older_than_s=0)
    assert store.open(root).verify() == []
    files = [path for path in Path(str(root)).rglob("*") if path.is_file()]
    return {str(f.relative_to(str(root))): sha256(f.read_bytes()).hexdigest() for f in files}
