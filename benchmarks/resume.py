"""Going on with a job of 100,000 shards of which 99 % are committed, in a process of its own.

What is timed is the job `extract` itself, from its start to the moment when the first missing plan
is handed out: labels are written, images planned into shards, and what is committed is listed.
Apart from it, the fingerprint that each command makes first: size and time of each image's two
files, on a local disk whose directory is in memory. Simulated are the tables of images and windows,
the commit records (all in a local folder), and what is in the files of images and annotations.
Wanted are 10 seconds and 1 GB; they stand where a peer's figure would.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import Row, main, peak_bytes

from actors.progress import Progress
from jobs import extract
from jobs.context import Context
from jobs.events import EVENTS, Events
from jobs.windows import COUNTS
from pipeline import index
from pipeline.config import Recipe
from pipeline.store.plan import ShardPlans

SHARDS, IMAGES_EACH = 100_000, 16
VOC, IMAGE_SET = "voc", "trainval"
WINDOWS = 1100  # of 7,168 float16 numbers: 16 MB an image, 256 MB a shard
WANTED_S, WANTED_BYTES = 10, 1e9
RECIPE = Recipe.model_validate(
    {
        "name": "resume",
        "dataset": {"kind": "voc", "root": "none"},
        "network": {"name": "squeezenet1_1"},
        "features": {"levels": [3, 2, 1], "shard_images": IMAGES_EACH, "shard_bytes": 10**9},
    }
)


class Reached(Exception):  # noqa: N818 - what is wanted, not a fault
    """The ids of the shards that are to be extracted."""


class Watching:
    """A runner that extracts nothing: the first plan ends the measurement."""

    cpus = 1

    def __init__(self) -> None:
        self.stop = threading.Event()

    def extract(self, spec: Any, plans: ShardPlans, *_: Any) -> Iterator[Any]:
        """Build the first plan, and leave."""
        raise Reached([plans[0].shard_id, *plans.ids[1:]])

    def map(self, *_: Any) -> Iterator[Any]:
        """Of no use here."""
        raise NotImplementedError("extraction alone is measured")


def write_inputs(root: Path, shards: int) -> None:
    """Write what the jobs before would have left."""
    images = shards * IMAGES_EACH
    columns = {
        "image_id": pa.array(f"{number:09d}" for number in range(images)),
        "file": pa.array(f"/data/images/{number:09d}.jpg" for number in range(images)),
        "width": np.full(images, 500, np.int32),
        "height": np.full(images, 375, np.int32),
        "bytes": np.full(images, 100_000),
        "modified_ns": np.full(images, 10**18),
        "split": [IMAGE_SET] * images,
    }
    for name in ("dataset", "windows", "job"):
        (root / name).mkdir()
    table = pa.table([columns[name] for name in index.IMAGES.names], schema=index.IMAGES)
    pq.write_table(table, root / "dataset/images.parquet")
    pq.write_table(index.OBJECTS.empty_table(), root / "dataset/objects.parquet")
    counts = {"image_id": columns["image_id"], "windows": np.full(images, WINDOWS)}
    pq.write_table(pa.table(counts), root / "windows" / COUNTS)


def write_images(root: Path, images: int) -> None:
    """Make a VOC folder whose files are empty: a fingerprint opens none."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"{number:09d}" for number in range(images)]
    (root / f"ImageSets/Main/{IMAGE_SET}.txt").write_text("\n".join(names))
    for name in names:
        for file in (f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml"):
            os.close(os.open(f"{root}/{file}", os.O_CREAT | os.O_WRONLY))


def start(root: Path) -> list[str]:
    """Run the job up to its first missing plan; return the ids of all that are missing."""
    inputs = {"dataset_train": root / "dataset", "windows_train": root / "windows"}
    quiet = Progress(quiet=True)
    events = Events(root / "job" / EVENTS)
    context = Context(RECIPE, Watching(), root / "job", inputs, quiet, "extract_train", events)
    try:
        extract.run("train", context)
    except Reached as reached:
        return reached.args[0]
    raise AssertionError("the job ended without a plan")


def measured(root: Path) -> dict[str, Any]:
    """Seconds, peak memory and missing shards of a start in a fresh interpreter."""
    command = [sys.executable, __file__, "--start", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((root / "start.json").read_text())


def commit(root: Path, shard_ids: Sequence[str]) -> None:
    """Write a record for each, of the size that one of 16 images has."""
    records = root / "job/store/records"
    records.mkdir(parents=True)
    for shard_id in shard_ids:
        (records / f"{shard_id}.json").write_text("x" * 1000)


def run(quick: bool) -> list[Row]:
    """Learn the ids where nothing is committed; commit 99 %; start again, three times."""
    shards = 300 if quick else SHARDS
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_inputs(root, shards)
        write_images(root / VOC, shards * IMAGES_EACH)
        all_ids = measured(root)["missing"]
        commit(root, all_ids[: shards * 99 // 100])
        found = [measured(root) for _ in range(1 if quick else 3)]
    if len(all_ids) != shards or found[0]["missing"] != all_ids[shards * 99 // 100 :]:
        raise AssertionError("other shards are missing than those that were not committed")
    what = f"{shards:,} shards, {shards * IMAGES_EACH:,} images, 99 % committed"
    seconds, fingerprint_s, peak = (
        statistics.median(one[name] for one in found)
        for name in ("seconds", "fingerprint_s", "peak")
    )
    within = ("10 seconds", WANTED_S)
    return [
        Row(f"to the first missing shard: {what}", seconds, *within, 1.0),
        Row("the images' fingerprint, before it", fingerprint_s, *within, None),
        Row("both", seconds + fingerprint_s, *within, 1.0),
        Row(f"the driver's memory, with both: {what}", peak, "1 GB", WANTED_BYTES, 1.0, unit="B"),
    ]


def timed_start(root: Path) -> None:
    """Make the fingerprint and start, as a command does; write down what both took."""
    began = time.perf_counter()
    index.fingerprint(root / VOC, IMAGE_SET)
    ended = time.perf_counter()
    missing = start(root)
    found = {
        "fingerprint_s": ended - began,
        "seconds": time.perf_counter() - ended,
        "peak": peak_bytes(),
        "missing": missing,
    }
    (root / "start.json").write_text(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        timed_start(Path(sys.argv[2]))
    else:
        main(run)
