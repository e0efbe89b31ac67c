"""A few images through the real extractor, timed: what a worker takes on this machine."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline import config, index, machine
from pipeline.datasets.records import ImageRecord
from pipeline.extraction.extractor import ShardExtractor
from pipeline.extraction.spec import ExtractionSpec, NetworkSpec
from pipeline.extraction.stats import ShardStats, add_stats
from pipeline.store import ShardPlan
from pipeline.store.place import place
from pipeline.windows.table import ChunkSpec, write_chunk

SHARD_IMAGES = 4  # fewer would time commits more than images
SPLIT = "probe"


@dataclass(frozen=True)
class ProbeSpec:
    """What is measured, and for how long."""

    records: tuple[ImageRecord, ...]
    """The first one warms up and is not counted: the largest, that memory is seen at its peak."""
    windows: config.Windows
    features: config.Features
    network: NetworkSpec
    seed: int
    folder: Path
    """Scratch, on the disk that a run would write to."""
    asked_s: float
    """`time.time()` when this process was asked for."""
    limit_s: float
    """Neither windows nor features begin another piece after so long."""
    decode_threads: int | None = None
    shards_in_hand: int = 2


@dataclass(frozen=True)
class ProbeStats:
    """What one worker took."""

    startup_s: float
    windows_s: tuple[float, ...]
    """Of each image."""
    shards: tuple[ShardStats, ...]
    peak_bytes: int

    @property
    def extract_s(self) -> tuple[float, ...]:
        """Seconds an image, of each shard."""
        return tuple(each.total_s / each.images for each in self.shards if each.images)


def probe(spec: ProbeSpec) -> ProbeStats:
    """Make windows of some images and extract their features into a scratch folder.

    Call it in a process of its own: memory is that of the whole process.
    """
    entered_s = time.time()
    root = spec.folder / "store"
    root.mkdir(parents=True)
    table = index.images_table(spec.records, SPLIT)
    pq.write_table(table, root / "images.parquet")
    extraction = ExtractionSpec(
        place(root),
        spec.network,
        spec.features,
        root / "images.parquet",
        spec.folder / "windows",
        SPLIT,
        "",
        decode_threads=spec.decode_threads,
    )
    counts, windows_s = _make_windows(spec)
    begun_s = time.time()
    extractor = ShardExtractor(extraction)
    startup_s = entered_s - spec.asked_s + time.time() - begun_s
    first, *rest = counts
    warm = extractor(_plan("warm", [first], counts))
    groups = [rest[at : at + SHARD_IMAGES] for at in range(0, len(rest), SHARD_IMAGES)]
    plans = [_plan(f"{k:03d}", group, counts) for k, group in enumerate(groups)]
    shards = _extract(extractor, plans, spec) or (warm,)
    return ProbeStats(startup_s, tuple(windows_s[1:] or windows_s), shards, machine.peak_bytes())


def _make_windows(spec: ProbeSpec) -> tuple[Counter[str], list[float]]:
    """Return the rows of each image that was reached, and the seconds that each took."""
    counts: Counter[str] = Counter()
    spent: list[float] = []
    alone = spec.windows.method != "file"  # a file is read once for a chunk of images
    chunks = [(record,) for record in spec.records] if alone else [spec.records]
    for number, records in enumerate(chunks):
        if number > 1 and sum(spent) > spec.limit_s:
            break
        start = time.perf_counter()
        done = write_chunk(
            ChunkSpec(f"{number:06d}", records),
            spec.windows,
            spec.seed,
            spec.folder / "windows",
            spec.features.max_pixels,
        )
        spent.append((time.perf_counter() - start) / len(records))
        counts.update({each.image_id: done.windows.get(each.image_id, 0) for each in records})
    return counts, spent


def _extract(
    extractor: ShardExtractor, plans: Sequence[ShardPlan], spec: ProbeSpec
) -> tuple[ShardStats, ...]:
    """Extract shard after shard, as many in hand as in a run, until the time is up."""
    stop_s = time.perf_counter() + spec.limit_s

    def one(plan: ShardPlan) -> ShardStats | None:
        late = time.perf_counter() > stop_s and plan is not plans[0]
        return None if late else extractor(plan)

    with ThreadPoolExecutor(spec.shards_in_hand) as pool:
        return tuple(stats for stats in pool.map(one, plans) if stats is not None)


def _plan(name: str, image_ids: Sequence[str], counts: Counter[str]) -> ShardPlan:
    return ShardPlan(name, tuple(image_ids), sum(counts[each] for each in image_ids), 0)


def summarise(probes: Sequence[ProbeStats]) -> dict[str, Any]:
    """Return what several workers side by side took, for people and programs."""
    shards = [shard for each in probes for shard in each.shards]
    windows_s = [spent for each in probes for spent in each.windows_s]
    extract_s = [spent for each in probes for spent in each.extract_s]
    images = sum(shard.images for shard in shards)
    total_s = sum(shard.total_s for shard in shards)
    stages: Counter[str] = Counter()
    for shard in shards:
        stages.update(shard.seconds)
    return {
        "workers": len(probes),
        "images": images,
        "quarantined": {name: why for s in shards for name, why in s.quarantined.items()},
        "windows_s": sum(windows_s) / len(windows_s) if windows_s else None,
        "windows_range_s": [min(windows_s), max(windows_s)] if windows_s else None,
        "extract_s": total_s / images if images else None,
        "extract_range_s": [min(extract_s), max(extract_s)] if extract_s else None,
        "stages_s": {name: spent / images for name, spent in stages.items()} if images else {},
        "bound_by": str(add_stats(shards)["bound_by"]).partition(" (")[0],
        "startup_s": max(each.startup_s for each in probes),
        "peak_bytes": max(each.peak_bytes for each in probes),
    }
