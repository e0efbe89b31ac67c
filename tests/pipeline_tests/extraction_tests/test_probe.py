"""A probe of few images, of no windows, and of no time; in this process, so not of memory."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import config
from pipeline.config import Features
from pipeline.datasets.records import ImageRecord
from pipeline.extraction import NetworkSpec, add_stats
from pipeline.extraction.probe import ProbeSpec, ProbeStats, probe, summarise
from pipeline.extraction.stats import ShardStats

NETWORK = NetworkSpec("zf5", None, 0, None, {"width": 0.0625, "fc_units": 8, "levels": (2, 1)})


def probed(
    folder: Path, sides: list[int], limit_s: float = 60.0, method: str = "grid"
) -> ProbeStats:
    records = []
    for number, side in enumerate(sides):
        path = folder / f"{number}.png"
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(path)
        records.append(ImageRecord(path.stem, path, side, side, ()))
    windows = config.Windows(method=method, max_windows=5)
    features = Features(scales=(96,), levels=(2, 1))
    asked_s = time.time()
    return probe(
        ProbeSpec(tuple(records), windows, features, NETWORK, 0, folder / "p", asked_s, limit_s)
    )


def test_the_first_image_warms_up_and_shards_have_four(tmp_path: Path) -> None:
    stats = probed(tmp_path, [70] * 7)
    assert [shard.images for shard in stats.shards] == [4, 2]
    assert [shard.rows for shard in stats.shards] == [20, 10]
    assert len(stats.windows_s) == 6
    assert stats.startup_s > 0


def test_one_image_without_windows_is_warm_up_and_sample(tmp_path: Path) -> None:
    stats = probed(tmp_path, [9], method="selective_search")  # 9 px are below its smallest
    assert [(shard.images, shard.rows) for shard in stats.shards] == [(1, 0)]
    told = summarise([stats])
    assert told["images"] == 1
    assert told["extract_s"] == pytest.approx(stats.shards[0].total_s)
    assert told["windows_s"] == stats.windows_s[0]


def test_no_time_still_measures_one_shard(tmp_path: Path) -> None:
    stats = probed(tmp_path, [70] * 12, limit_s=0.0)
    assert [shard.shard_id for shard in stats.shards] == ["000"]
    assert stats.shards[0].images == 1  # windows were made of two, one to warm up
    assert len(stats.windows_s) == 1


def test_what_cannot_be_read_is_told() -> None:
    lost = ShardStats("a", 0, 0, 0, {"x": "no file"}, total_s=1.0)
    told = summarise([ProbeStats(1.0, (), (lost,), 5), ProbeStats(2.0, (), (lost,), 3)])
    assert (told["images"], told["quarantined"]) == (0, {"x": "no file"})
    assert (told["extract_s"], told["windows_s"]) == (None, None)
    assert (told["startup_s"], told["peak_bytes"]) == (2.0, 5)


def test_sums_know_the_largest_worker_and_the_seconds_of_an_image() -> None:
    one = ShardStats("a", 9, 0, 3, {}, 0, {"network": 5.0}, {}, 6.0, peak_bytes=70)
    other = ShardStats("b", 9, 0, 1, {}, 0, {"network": 1.0}, {}, 2.0, peak_bytes=50)
    before = ShardStats("c", 9, 0, 100, {})  # committed by an earlier run
    assert add_stats([one, other, before])["worker"] == {
        "seconds_per_image": 2.0,
        "peak_bytes": 70,
    }
    assert add_stats([before])["worker"] == {"seconds_per_image": None, "peak_bytes": 0}
