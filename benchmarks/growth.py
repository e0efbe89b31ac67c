"""Growth: time and peak memory of extraction, mining and detection on 1, 2, 4 and 8 times as much.

Once with more images of as many windows each, once with as many images of more windows. Each size
runs in a process of its own, which compiles and warms up on one image, and tells its seconds (the
median of five runs that start from nothing) and its peak resident memory, most of which the
libraries take: a note says how much. Noise as photographs, a narrow ZF-5, shards and row groups so
small that the smallest size has several of both. The figure of time is the slope of log seconds
against log size, where 1 is a straight line through nothing; that of memory is the largest process
against the smallest.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measure import Row, main, peak_bytes
from mining import CLASSES, made_boxes
from PIL import Image

from pipeline import index, store
from pipeline.config import Detection, Features, Mining, Svm
from pipeline.datasets.records import ImageRecord, Object
from pipeline.detection import DetectSpec, detect_shard
from pipeline.extraction import ExtractionSpec, NetworkSpec, ShardExtractor, vector_spec
from pipeline.learning import Classifiers
from pipeline.learning.mining import MiningSpec, mine_shard, start_shard
from pipeline.store.labels import write_labels
from pipeline.store.manifest import claim
from pipeline.store.place import place
from pipeline.store.schema import GROUND_TRUTH
from pipeline.windows.table import WINDOWS

SIZE = (320, 240)  # pixels
NETWORK = NetworkSpec("zf5", None, 0, None, {"width": 0.25, "fc_units": 16})
FEATURES = Features(scales=(240,), shard_bytes=16_000_000, row_group_bytes=4_000_000)
FACTORS = (1, 2, 4, 8)
CHUNK_IMAGES = 16  # in a file of windows, as the job writes them
STAGES = ("extraction", "mining", "detection")
RUNS = 5
WANTED = 1 / 1.1  # slopes up to 1.1, and memory within a tenth
WHOLE = ". It grows because the vectors of a whole image are in memory"


def write_inputs(root: Path, images: int, windows: int) -> None:
    """Write photographs, their tables, and their windows."""
    random = np.random.default_rng(images)
    records, tables = [], []
    (root / "windows").mkdir(parents=True)
    for number in range(images):
        path = root / f"{number:06d}.jpg"
        coarse = random.integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
        Image.fromarray(coarse).resize(SIZE).save(path, quality=90)
        boxes = made_boxes(random, windows + 1)
        boxes = boxes * np.float32(0.64)  # made for 500 by 375
        corners = tuple(map(float, boxes[-1]))
        objects = (Object(CLASSES[number % 20], corners),)  # pyright: ignore[reportArgumentType]
        records.append(ImageRecord(path.stem, path, *SIZE, objects))
        words = pa.array(["file"] * windows + [GROUND_TRUTH]).dictionary_encode()
        ids = pa.array([path.stem] * (windows + 1))
        numbers = pa.array(np.arange(windows + 1, dtype=np.int32))
        columns = [ids, numbers, *map(pa.array, boxes.T.copy()), words]
        tables.append(pa.table(columns, schema=WINDOWS))
        if len(tables) == CHUNK_IMAGES or number == images - 1:
            held = pa.concat_tables(tables).unify_dictionaries()
            pq.write_table(held, root / f"windows/{number:06d}.parquet")
            tables = []
    folder = place(root / "store")
    write_labels(folder, "images.parquet", index.images_table(records, "train"))
    write_labels(folder, "objects.parquet", index.objects_table(records, "train"))


def extract(root: Path, images: int, windows: int) -> store.Store:
    """Extract everything into a store."""
    folder = place(root / "store")
    images_file = root / "store/images.parquet"
    spec = ExtractionSpec(
        folder, NETWORK, FEATURES, images_file, root / "windows", "train", "benchmark"
    )
    row_bytes = vector_spec(NETWORK.load(), FEATURES).row_bytes
    ids = [f"{number:06d}" for number in range(images)]
    counts = {"image_id": ids, "windows": [windows + 1] * images, "bytes": [1] * images}
    plans = store.plan_shards(pa.table(counts), row_bytes, FEATURES.shard_bytes, "benchmark")
    extractor = ShardExtractor(spec)
    claim(folder, {"network": "benchmark"})
    for plan in plans:
        extractor(plan)
    store.finish(folder, [plan.shard_id for plan in plans])
    return store.open(folder)


def mine(held: store.Store, folder: Path) -> Classifiers:
    """Sample, and mine with weights that find about as many in any image."""
    dim = held.spec.length
    weights = np.random.default_rng(0).standard_normal((len(CLASSES), dim), np.float32) / dim
    known = Classifiers(CLASSES, weights, np.full(20, -1.05, np.float32), 1.0)
    spec = MiningSpec(held, CLASSES, Svm(), Mining(), 0)
    caches = [folder / "start", folder / "mined"]
    for entry in held.shards:
        start_shard(spec, entry.shard_id, caches[0])
    for entry in held.shards:
        mine_shard(spec, entry.shard_id, caches, known)
    return known


def detect(held: store.Store, known: Classifiers, folder: Path) -> int:
    """Detect in everything; return how many detections there are."""
    known.save(folder / "classifiers")
    spec = DetectSpec(held, folder / "classifiers", Detection())
    found = [detect_shard(spec, entry.shard_id, folder / "found") for entry in held.shards]
    if sum(stats.images for stats in found) != len(held.images):
        raise AssertionError("detection has not seen each image")
    return sum(stats.detections for stats in found)


def one_size(images: int, windows: int, runs: int) -> dict[str, float]:
    """Seconds of each stage and peak memory, in this process."""
    torch.set_num_threads(1)
    spent: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for run in range(-1, runs):  # the first one warms up
        with tempfile.TemporaryDirectory() as name:
            root, count = Path(name), images if run >= 0 else 1
            write_inputs(root, count, windows)
            marks = [time.perf_counter()]
            held = extract(root, count, windows)
            marks.append(time.perf_counter())
            known = mine(held, root)
            marks.append(time.perf_counter())
            detect(held, known, root)
            marks.append(time.perf_counter())
        if run >= 0:
            for stage, seconds in zip(STAGES, np.diff(marks).tolist(), strict=True):
                spent[stage].append(seconds)
    return {k: statistics.median(v) for k, v in spent.items()} | {"peak": peak_bytes()}


def sweep(sizes: list[tuple[int, int]], runs: int) -> list[dict[str, float]]:
    """Measure each size in a process of its own."""
    found = []
    for images, windows in sizes:
        command = [sys.executable, __file__, "--size", str(images), str(windows), str(runs)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    return found


def idle_bytes() -> int:
    """Peak memory of a process that has the libraries loaded and does nothing."""
    command = [sys.executable, __file__, "--idle"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rows_of(what: str, sizes: list[tuple[int, int]], runs: int, why: str = "") -> list[Row]:
    """Figures of one sweep: slopes of each stage and of all, and memory."""
    found = sweep(sizes, runs)
    grown = np.log([images * windows for images, windows in sizes])
    rows = []
    for stage in (*STAGES, "all three"):
        seconds = [sum(one[s] for s in STAGES if stage in (s, "all three")) for one in found]
        slope = float(np.polyfit(grown, np.log(seconds), 1)[0])
        told = f"{what}, {stage}: " + ", ".join(f"{each:.2f} s" for each in seconds)
        rows.append(
            Row(f"slope, {stage}, {what}", slope, "a line", 1.0, WANTED, told, unit="slope")
        )
    peaks = [one["peak"] for one in found]
    told = f"{what}, memory: " + ", ".join(f"{each / 1e6:.0f} MB" for each in peaks)
    told += f"; {idle_bytes() / 1e6:.0f} MB of each are an idle process with the libraries loaded"
    told += why
    rows.append(Row(f"memory, {what}", max(peaks), "least", min(peaks), WANTED, told, unit="B"))
    return rows


def run(quick: bool) -> list[Row]:
    """Both sweeps."""
    if quick:
        # far apart, or the noise of so little work could turn a slope around
        return rows_of("images", [(2, 60), (16, 60)], 3)
    images = [(8 * factor, 500) for factor in FACTORS]
    windows = [(8, 500 * factor) for factor in FACTORS]
    return [
        *rows_of("more images", images, RUNS),
        *rows_of("more windows an image", windows, RUNS, WHOLE),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--size"]:
        print(json.dumps(one_size(*map(int, sys.argv[2:5]))))
    elif sys.argv[1:] == ["--idle"]:
        print(peak_bytes())
    else:
        main(run)
