"""A worker's memory: each part by hand, and the whole against real extractors."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline import config, networks
from pipeline.config import Features
from pipeline.datasets.records import ImageRecord
from pipeline.extraction import NetworkSpec
from pipeline.extraction.memory import (
    LIBRARIES_BYTES,
    Largest,
    MemoryPlan,
    find_largest,
    project_memory,
)
from pipeline.extraction.probe import ProbeSpec, ProbeStats, probe, summarise

PIXELS = 224 * 224
CELLS = 13 * 13
CHANNELS, UNITS = 16, 24
OPTIONS: dict[str, Any] = {"width": 0.0625, "fc_units": UNITS, "levels": (2, 1)}
LARGEST = Largest("a", (224, 224), 101 * 103, 7, "b")
VECTOR = CHANNELS * 5 * 2  # bytes: 2×2 and 1 bins in float16
ACTIVATIONS = 12_000_000 + 4 * (3 * PIXELS + 55 * 55 * 6)


def planned(number_bytes: int = 4, threads: int = 3, hand: int = 2, **settings: Any) -> MemoryPlan:
    features = Features(**{"scales": (224,), "levels": (2, 1), **settings})
    return project_memory(
        networks.outline("zf5", **OPTIONS),
        features,
        LARGEST,
        number_bytes=number_bytes,
        decode_threads=threads,
        shards_in_hand=hand,
    )


def table(rows: list[tuple[str, int, int, int]]) -> pa.Table:
    kinds = (pa.string(), pa.int32(), pa.int32(), pa.int64())
    names = ("image_id", "width", "height", "windows")
    columns = list(zip(*rows, strict=True)) or [()] * 4
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.table(dict(zip(names, arrays, strict=True)))


def test_every_part_by_hand() -> None:
    parts = planned().parts
    expected = {
        "images": (2 * (3 + 1) + 1 + 1) * 12 * PIXELS,
        "decoding": 2 * 3 * (16 * 101 * 103 + 2 * 12 * PIXELS),
        "activations": ACTIVATIONS,
        "maps": CELLS * CHANNELS * ((1 + 2 * 3) * 4 + 4 * 2),
        "windows": 2 * 64 * 7 * 120,
        "row groups": 2 * (32_000_000 + 7 * VECTOR),
        "vectors": 2 * (3 + 1) * 7 * VECTOR,
    }
    weights = networks.load("zf5", **OPTIONS).state_dict().values()
    expected["held back"] = ACTIVATIONS + sum(expected.values()) // 10
    expected |= {
        "libraries": LIBRARIES_BYTES,
        "network": sum(each.numel() for each in weights) * 4,
        "loading": 0,
    }
    assert parts == expected
    assert planned().bytes == sum(expected.values())


def test_a_batch_joins_pixels_and_keeps_its_maps_together() -> None:
    parts = planned(images_per_batch=5).parts
    assert parts["images"] == (2 * (3 + 5) + 5 + 1) * 12 * PIXELS
    assert parts["activations"] == 5 * (ACTIVATIONS + 12 * PIXELS)
    assert parts["maps"] == CELLS * CHANNELS * ((5 + 2 * (3 + 2 * 4)) * 4 + 4 * 2)


def test_images_of_many_sizes_leave_holes_that_a_whole_pass_fits() -> None:
    features = Features(scales=(224,), levels=(2, 1))
    network = networks.outline("zf5", **OPTIONS)
    one, many = (
        project_memory(network, features, replace(LARGEST, sizes=sizes)).parts for sizes in (1, 2)
    )
    made = 4 * (55 * 55 * 6 + CELLS * (16 + 24 + 24 + 16))
    assert many["held back"] - one["held back"] == 150_000_000 + made - ACTIVATIONS
    assert {**many, "held back": 0} == {**one, "held back": 0}


def test_one_shard_in_hand_takes_about_half() -> None:
    parts = planned(hand=1).parts
    assert parts["images"] == (1 * (3 + 1) + 1 + 1) * 12 * PIXELS
    assert parts["row groups"] == 32_000_000 + 7 * VECTOR
    assert parts["held back"] == sum(planned(hand=1).parts[name] for name in OWN) // 10


OWN = ("images", "decoding", "activations", "maps", "windows", "row groups", "vectors")


def test_fc_layers_have_a_batch_and_send_its_rows() -> None:
    parts = planned(number_bytes=2, layer="fc7", fc_rows=11).parts
    row = CHANNELS * 5 * 2
    assert parts["fc batch"] == 11 * (row + 3 * UNITS * 2)
    assert parts["vectors"] == 2 * (3 * 11 * UNITS * (2 + 2) + 7 * UNITS * 2)
    assert parts["maps"] == CELLS * CHANNELS * (7 * 2 + 4 * 2)


def test_a_store_of_maps_holds_no_vector() -> None:
    parts = planned(store="maps", shard_images=13).parts
    assert parts.keys() & {"row groups", "vectors"} == set()
    assert parts["windows"] == 2 * 13 * 7 * 120


def test_small_shards_have_small_row_groups_and_lists_have_levels() -> None:
    small = planned(shard_bytes=5 * 7 * VECTOR).parts
    assert small["row groups"] == 2 * 5 * 7 * VECTOR
    assert small["windows"] == 2 * 6 * 7 * 120
    lists = planned(shard_bytes=5 * 7 * VECTOR, vector_layout="list").parts
    assert lists["row groups"] == 2 * 5 * 7 * (VECTOR + VECTOR // 2 * 4)


def test_weights_are_there_twice_while_they_are_loaded() -> None:
    network = networks.outline("zf5", fc_units=1)
    weights = sum(each.numel() for each in network.state_dict().values())
    for number_bytes, loading in ((4, 8), (2, 8 + 2)):
        alone = project_memory(network, Features(), None, number_bytes=number_bytes)
        assert alone.bytes == LIBRARIES_BYTES + loading * weights


def test_the_largest_counts_and_what_is_quarantined_does_not() -> None:
    settings = Features(scales=(20, 10), max_pixels=20_000)
    rows = [
        ("square", 90, 90, 5),
        ("long", 90, 30, 3),  # at 20 px 60×20: larger than any square
        ("many", 40, 40, 19),
        ("huge", 200, 101, 99),
    ]
    assert find_largest(table(rows), settings) == Largest("long", (90, 30), 8100, 19, "many", 3)
    assert find_largest(table(rows[-1:]), settings) is None
    assert find_largest(table([]), settings) is None
    none = project_memory(networks.outline("zf5", **OPTIONS), settings, None)
    assert none.parts.keys() == {"libraries", "network", "loading"}


def test_an_image_without_windows_and_scales_it_outgrows() -> None:
    largest = find_largest(table([("a", 60, 20, 0)]), Features(scales=(224,)))
    assert largest is not None
    settings = Features(scales=(224, 1000), levels=(2, 1), max_pixels=700 * 700)
    plan = project_memory(networks.outline("zf5", **OPTIONS), settings, largest)
    # 224 px make 672×224; 1,000 px would make 3,000×1,000, and the image be quarantined
    assert plan.parts["images"] == (2 * (1 + 1) + 1 + 1) * 12 * 672 * 224
    assert plan.parts["vectors"] == 0


SETTINGS = {
    "digits": (
        NetworkSpec("zf5", None, 0, None, {"width": 0.25, "fc_units": 16, "levels": (6, 3, 2, 1)}),
        Features(scales=(120, 330, 540), row_group_bytes=4_000_000),
        (300, 260),
    ),
    "photographs": (
        NetworkSpec("squeezenet1_1", None),
        Features(scales=(480,), levels=(3, 2, 1)),
        (500, 375),
    ),
}


def noise(folder: Path, size: tuple[int, int], count: int) -> tuple[ImageRecord, ...]:
    pixels = np.random.default_rng(0).integers(0, 255, (count, *size[::-1], 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return tuple(ImageRecord(f"{k}", folder / f"{k}.png", *size, ()) for k in range(count))


@pytest.fixture(params=sorted(SETTINGS))
def extracted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ProbeSpec, ProbeStats]:
    """A real extractor at work on two shards at a time, in an interpreter of its own."""
    network, features, size = SETTINGS[request.param]
    windows = config.Windows(method="grid", max_windows=400)
    records = noise(tmp_path, size, 9)
    spec = ProbeSpec(records, windows, features, network, 0, tmp_path / "probe", 0.0, 60.0)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return spec, pool.submit(probe, spec).result(timeout=100)


@pytest.mark.slow
def test_a_real_worker_stays_below_the_projection_and_not_far(
    extracted: tuple[ProbeSpec, ProbeStats],
) -> None:
    spec, stats = extracted
    rows = [(each.image_id, each.width, each.height, 400) for each in spec.records]
    network = spec.network.load()
    projected = project_memory(
        network, spec.features, find_largest(table(rows), spec.features)
    ).bytes
    assert stats.peak_bytes <= projected <= 2.5 * stats.peak_bytes
    assert [shard.images for shard in stats.shards] == [4, 4]
    assert 0 < max(shard.peak_bytes for shard in stats.shards) <= stats.peak_bytes
    told = summarise([stats, stats])
    assert (told["workers"], told["images"], told["quarantined"]) == (2, 16, {})
    total_s = sum(shard.total_s for shard in stats.shards)
    assert told["extract_s"] == pytest.approx(total_s / 8)
    assert told["peak_bytes"] == stats.peak_bytes
