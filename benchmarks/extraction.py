"""Extraction through Ray against a bare loop, and against a script of one's own.

One actor extracts JPEG photographs with about 1,000 windows each into committed shards: read,
decode, resize, network, pooling, fc, float16, Parquet, fsync. A shard of one image warms the actor
up. The clock starts when that is answered and nothing else is in the actor's hands, and stops at
the answer to the last commit; in between the actor has at most two shards in hand, as the runner
gives them. So starting Ray and loading the network are left out, and nothing of what is counted is
done before. The actor decodes and writes in threads of their own beside the network's one. The bare
loop calls the same functions one image after the other on one thread, without Ray, and keeps
nothing. The script is what one writes without this project (`script_peer.py`): a Ray actor that
pools window by window and writes lists of floats.
"""

import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Ray reads them when it is imported.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.pop("RAY_ADDRESS", None)

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from measure import Row, main
from PIL import Image
from script_peer import SCRIPT_IMAGES, check_script, script_s

from actors.extractor import SHARDS_IN_HAND, Extractor
from pipeline import features, images, index
from pipeline.config import Features
from pipeline.datasets.records import ImageRecord
from pipeline.extraction import ExtractionSpec, NetworkSpec, ShardStats, add_stats
from pipeline.store import ShardPlan, Store, plan_shards, vectors
from pipeline.store.place import place
from pipeline.store.scan import scan_shard
from pipeline.store.schema import box_array
from pipeline.windows.table import WINDOWS

RUNS, SCRIPT_RUNS = 5, 3
SIZE = (500, 375)  # of a photograph of PASCAL VOC
OBJECT_STORE_BYTES = 150_000_000


@dataclass(frozen=True)
class Case:
    """What is extracted."""

    name: str
    network: NetworkSpec
    features: Features
    images: int
    windows: int


def cases(quick: bool) -> list[Case]:
    """SqueezeNet's pooled vectors, and fc7 of ZF-5: a network that binds less, one that does."""
    if quick:
        narrow = NetworkSpec("zf5", None, 0, None, {"width": 0.1, "fc_units": 16, "levels": (2, 1)})
        small = Features(scales=(160,), levels=(2, 1), shard_bytes=20_000)
        sizes = [(small, 4, 30), (small.model_copy(update={"layer": "fc7"}), 4, 30)]
        return [Case(f"tiny, {each.layer}", narrow, each, *size) for each, *size in sizes]
    squeezenet = NetworkSpec("squeezenet1_1", None)
    return [
        Case("SqueezeNet 1.1, pool5, 25,600-d", squeezenet, Features(), 20, 1000),
        Case("ZF-5, fc7", NetworkSpec("zf5", None), Features(layer="fc7"), 10, 1000),
    ]


def photograph(random: np.random.Generator) -> Image.Image:
    """Noise at several grains: as much to decode as a photograph, about 100 kB."""
    width, height = SIZE
    pixels = np.zeros((height, width, 3), np.float32)
    for grain in (60, 20, 6, 2):
        coarse = random.random((height // grain + 1, width // grain + 1, 3), np.float32)
        pixels += cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC) * grain**0.5
    pixels -= pixels.min()
    return Image.fromarray((pixels * (255 / pixels.max())).astype(np.uint8))


def boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Windows of all sizes from 20 pixels up, evenly in the logarithm, on whole pixels.

    A quarter are others moved by up to a pixel, so that about as many share their cells as windows
    of selective search do: 19% on photographs of PASCAL VOC at scale 688.
    """
    limit, own = np.array(SIZE), count - count // 4
    sides = np.exp(random.uniform(np.log(20), np.log(limit), (own, 2))).astype(int)
    corners = (random.random((own, 2)) * (limit - sides + 1)).astype(int)
    windows = np.hstack([corners, corners + sides])
    moved = windows[: count - own] + random.integers(-1, 2, (count - own, 1))
    return np.clip(np.vstack([windows, moved]), 0, np.tile(limit, 2)).astype(np.float32)


def make_dataset(folder: Path, case: Case) -> ExtractionSpec:
    """Write photographs, their list and their windows."""
    random = np.random.default_rng(0)
    records, tables = [], []
    (folder / "windows").mkdir(parents=True)
    for number in range(case.images):
        image_id = f"{number:06d}"
        photograph(random).save(folder / f"{image_id}.jpg", quality=90)
        records.append(ImageRecord(image_id, folder / f"{image_id}.jpg", *SIZE, ()))
        columns = [
            pa.array([image_id] * case.windows),
            pa.array(np.arange(case.windows, dtype=np.int32)),
            *map(pa.array, boxes(random, case.windows).T.copy()),
            pa.array(["made"] * case.windows).dictionary_encode(),
        ]
        tables.append(pa.table(columns, schema=WINDOWS))
    pq.write_table(pa.concat_tables(tables).unify_dictionaries(), folder / "windows/0.parquet")
    pq.write_table(index.images_table(records, "made"), folder / "images.parquet")
    places = (folder / "images.parquet", folder / "windows", "made", "benchmark")
    return ExtractionSpec(place(folder / "store"), case.network, case.features, *places)


def plans_of(spec: ExtractionSpec, case: Case) -> Sequence[ShardPlan]:
    """A shard of one image to warm up with, then shards as the recipe cuts them."""
    row_bytes = vector_bytes(spec)
    ids = [f"{number:06d}" for number in range(case.images)]
    same = {"windows": [case.windows] * case.images, "bytes": [1] * case.images}
    images, most = pa.table({"image_id": ids, **same}), spec.features.shard_bytes
    warm = plan_shards(images[:1], row_bytes, most, "warm")
    return [*warm, *plan_shards(images[1:], row_bytes, most, spec.made_from)]


def vector_bytes(spec: ExtractionSpec) -> int:
    """Bytes of a stored vector."""
    network = spec.network.load()
    return 2 * network.layer_size(spec.features.layer, spec.features.levels)


def extract(spec: ExtractionSpec, plans: Sequence[ShardPlan]) -> tuple[float, list[ShardStats]]:
    """Seconds of all shards but the first one, which warms up, through Ray with one actor."""
    options: Any = Extractor.options(num_cpus=1, num_gpus=0, max_concurrency=SHARDS_IN_HAND)
    actor = options.remote(spec)
    ray.get(actor.ready.remote())
    ray.get(actor.extract.remote(plans[0]))
    flying, done = [], []
    start = time.perf_counter()
    for plan in plans[1:]:
        if len(flying) == SHARDS_IN_HAND:
            answered, flying = ray.wait(flying)
            done += ray.get(answered)
        flying.append(actor.extract.remote(plan))
    done += ray.get(flying)
    spent_s = time.perf_counter() - start
    ray.kill(actor)
    return spent_s, done


def bare_loop(spec: ExtractionSpec, network: torch.nn.Module) -> Iterator[np.ndarray]:
    """The same functions on one thread: no Ray, no rows, nothing written."""
    listed = pq.read_table(spec.images).to_pylist()
    table = pq.read_table(spec.windows)
    each = len(table) // len(listed)
    corners = box_array(table).reshape(len(listed), each, 4)
    for row, windows in zip(listed, corners, strict=True):
        image = images.decode(Path(row["file"]).read_bytes())
        yield features.window_vectors(image, windows, network, spec.features)[0]


def against_bare_loop(case: Case, folder: Path, runs: int) -> Row:
    """Both in turn, so that a change of the machine's mood meets both."""
    spec = make_dataset(folder, case)
    plans, network = plans_of(spec, case), spec.network.load()
    ours, peers, found = [], [], []
    stats: list[ShardStats] = []
    for run in range(runs):
        seconds, found = extract(replace(spec, root=place(folder / "store")), plans)
        ours.append(seconds / (case.images - 1))
        stats += found
        if run == 0:
            check(spec, plans, network)
        shutil.rmtree(folder / "store")
        start = time.perf_counter()
        for _ in bare_loop(spec, network):
            pass
        peers.append((time.perf_counter() - start) / case.images)
    told = add_stats(stats)
    images_done = runs * (case.images - 1)
    stages = {name: round(spent / images_done, 3) for name, spent in told["worker_seconds"].items()}
    note = (
        f"{case.name}: at work, seconds an image: {stages}; bound by {told['bound_by']}; "
        f"{told['windows_reused'] / images_done / case.windows:.0%} of the windows reused; "
        f"{runs} runs of {case.images - 1} images after one to warm up, the loop of {case.images}"
    )
    return Row(
        f"an image of {case.windows} windows, {case.name}, one actor of Ray, committed",
        statistics.median(ours),
        "the same functions in a bare loop, nothing written",
        statistics.median(peers),
        0.9,
        note,
    )


def stored(spec: ExtractionSpec, plans: Sequence[ShardPlan]) -> np.ndarray:
    """All vectors of the shards, in the order of the images."""
    held = Store(spec.root)
    tables = [table for plan in plans for table in scan_shard(held, plan.shard_id, ["vector"])]
    return np.concatenate([vectors(table) for table in tables])


def check(spec: ExtractionSpec, plans: Sequence[ShardPlan], network: torch.nn.Module) -> None:
    """The shards hold what the bare loop computes: pool5 to the bit, fc7 but for rounding."""
    held = stored(spec, plans)
    expected = np.concatenate(list(bare_loop(spec, network)))
    if spec.features.layer == "pool5":
        np.testing.assert_array_equal(held, expected)
    else:
        np.testing.assert_allclose(held, expected, rtol=2e-3, atol=2e-3)


def against_script(case: Case, folder: Path, runs: int) -> Row:
    """The same photographs by a script on plain Ray, one actor of it."""
    spec = make_dataset(folder, case)
    plans = plans_of(spec, case)
    ours, peers = [], []
    for _ in range(runs):
        shutil.rmtree(folder / "store", ignore_errors=True)
        ours.append(extract(spec, plans)[0] / (case.images - 1))
        peers.append(script_s(spec, folder / "script"))
    check_script(stored(spec, plans), folder / "script")
    return Row(
        f"an image of {case.windows} windows, {case.name}, one actor of Ray, committed",
        statistics.median(ours),
        "a script: a Ray actor, adaptive_max_pool2d a window, write_table of list<float>",
        statistics.median(peers),
        None,
        f"against the script: {runs} runs, ours of {case.images - 1} images and the script's of "
        f"{SCRIPT_IMAGES - 1}, after one to warm up. Ray Data's map_batches would run the same "
        "actor; it needs pandas, which this project does not",
    )


@contextmanager
def own_ray() -> Iterator[Path]:
    """A Ray apart from any other on this machine, and a folder; both end with the block."""
    # Short: a socket's path may have 107 characters, and Ray needs 60.
    folder = Path(tempfile.mkdtemp(prefix="spp"))
    try:
        ray.init(
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder / "ray"),
        )
        yield folder
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def run(quick: bool) -> list[Row]:
    """Measure each case, and the script on the first of them with few images."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # of the bare loop; the actors set their own
    runs = 1 if quick else RUNS
    with own_ray() as folder:
        made = cases(quick)
        rows = [
            against_bare_loop(case, folder / f"case{number}", runs)
            for number, case in enumerate(made)
        ]
        return [*rows, against_script(made[0], folder / "script", 1 if quick else SCRIPT_RUNS)]


if __name__ == "__main__":
    main(run)
