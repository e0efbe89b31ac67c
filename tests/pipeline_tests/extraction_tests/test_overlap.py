"""Whatever the stages' timing: the same bytes, errors as they were, nothing left behind."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline import features, images, index, networks
from pipeline.config import Features
from pipeline.datasets.records import ImageRecord
from pipeline.extraction import ExtractionSpec, NetworkSpec, ShardExtractor, extractor
from pipeline.extraction.writing import RowWriter
from pipeline.store import ShardPlan, ShardWriter, vectors
from pipeline.windows.table import WINDOWS

WAIT_S = 20
COUNT = 12
OPTIONS = {"width": 0.0625, "fc_units": 24, "levels": (2, 1), "classes": 3}


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Neither a thread, nor another number of torch's threads."""
    threads, before = torch.get_num_threads(), set(threading.enumerate())
    yield
    torch.set_num_threads(threads)
    assert {each for each in threading.enumerate() if not each.daemon} <= before


@pytest.fixture
def spec(tmp_path):
    """Twelve images of three sizes, with 0, 7 or 14 windows each, some on the same cells."""
    noise = np.random.default_rng(2)
    records, tables = [], []
    for number in range(COUNT):
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
        root=tmp_path / "store",
        network=NetworkSpec("zf5", None, 3, None, OPTIONS),
        features=Features(scales=(96, 140, 280), levels=(2, 1), row_group_bytes=3000, fc_rows=7),
        images=tmp_path / "images.parquet",
        windows=tmp_path / "windows",
        split="test",
        made_from="digest",
        decode_threads=3,
    )


def change(spec, **changes):
    return replace(spec, features=spec.features.model_copy(update=changes))


def plans_of(spec, shards):
    names = [f"{number:02d}" for number in range(COUNT)]
    size = COUNT // shards
    return [
        ShardPlan(f"{place:05d}", tuple(names[place * size : (place + 1) * size]), 0, 0)
        for place in range(shards)
    ]


def contents(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def sleepy(function, seed, most_s=0.01):
    """The function, after a while that nobody can foresee but the seed."""
    while_s = random.Random(seed)

    def slow(*arguments, **options):
        time.sleep(while_s.random() * most_s)
        return function(*arguments, **options)

    return slow


KINDS = [
    {},
    {"layer": "fc7"},
    {"store": "maps"},
    {"layer": "fc6", "images_per_batch": 2, "vector_layout": "list"},
]


@pytest.mark.parametrize("changes", KINDS)
def test_the_same_bytes_whoever_is_slow(spec, changes, monkeypatch):
    spec, plans = change(spec, **changes), plans_of(spec, 4)
    serial = ShardExtractor(replace(spec, decode_threads=1))
    for plan in plans:
        serial(plan)
    expected = contents(spec.root)
    assert len(expected) == 4 * (3 if changes.get("store") == "maps" else 2)
    slow = {
        images: "decode",
        features: "feature_maps",
        ShardWriter: "write",
    }
    for seed, (place, name) in enumerate(slow.items()):
        with monkeypatch.context() as patch:
            # this stage slow, and the others now and then
            for each, other in slow.items():
                most_s = 0.02 if each is place else 0.002
                patch.setattr(each, other, sleepy(getattr(each, other), seed, most_s))
            again = replace(spec, root=spec.root.with_name(name))
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(ShardExtractor(again), plans))
        assert contents(again.root) == expected


def test_the_next_shard_is_at_work_while_one_is_committed(spec, monkeypatch):
    """And yet the first is answered for only when its record lies there."""
    first, second = plans_of(spec, 2)
    reached, order = threading.Event(), []
    commit = ShardWriter.commit

    def slow_commit(writer, *arguments):
        if writer._shard_id == first.shard_id:
            assert reached.wait(WAIT_S)  # for the second shard's network
        record = commit(writer, *arguments)
        order.append(f"committed {writer._shard_id}")
        return record

    run = features.feature_maps

    def network_at_work(batch, network):
        if threading.current_thread().name == "second":
            reached.set()
        return run(batch, network)

    monkeypatch.setattr(ShardWriter, "commit", slow_commit)
    monkeypatch.setattr(features, "feature_maps", network_at_work)
    extract, stats = ShardExtractor(spec), []

    def answer(plan):
        stats.append(extract(plan))
        assert (spec.root / "records" / f"{plan.shard_id}.json").is_file()
        order.append(f"answered {plan.shard_id}")

    threads = [
        threading.Thread(target=answer, args=(plan,), name=name)
        for plan, name in ((first, "first"), (second, "second"))
    ]
    started_s = time.perf_counter()
    threads[0].start()
    while "write" not in {thread.name[:5] for thread in threading.enumerate()}:
        time.sleep(0.001)  # the first has its turn, or soon will; either order is right
    threads[1].start()
    for thread in threads:
        thread.join(WAIT_S)
    assert order.index("committed 00000") < order.index("answered 00000")
    assert len(order) == 4
    # Time in which both were at work is told once.
    assert sum(each.total_s for each in stats) <= time.perf_counter() - started_s


@pytest.mark.parametrize("threads", [1, 2])
def test_the_network_runs_on_the_threads_it_was_given_wherever_it_is_called(
    spec, monkeypatch, threads
):
    found = []
    run = features.feature_maps

    def watched(batch, network):
        lines = torch.__config__.parallel_info().splitlines()
        # OpenMP has a number for each thread, and torch one for all: both must be ours
        found.extend(line for line in lines if "get_num_threads" in line)
        found.extend(line for line in lines if "omp_get_max_threads" in line)
        return run(batch, network)

    monkeypatch.setattr(features, "feature_maps", watched)
    extract = ShardExtractor(replace(spec, threads=threads))
    torch.set_num_threads(3 - threads)  # somebody else's wish, meanwhile
    thread = threading.Thread(target=extract, args=plans_of(spec, 1))
    thread.start()
    thread.join(WAIT_S)
    assert len(found) >= 2
    assert {int(line.rpartition(":")[2]) for line in found} == {threads}


# --- errors --------------------------------------------------------------------------------------


def fails_at(number, error, function):
    """The function; its call of that number raises."""
    count = iter(range(1000))

    def sometimes(*arguments, **options):
        if next(count) == number:
            raise error
        return function(*arguments, **options)

    return sometimes


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize(
    ("place", "name"),
    [
        (images, "decode"),
        (features, "feature_maps"),
        (ShardWriter, "write"),
        (ShardWriter, "_flush"),
        (ShardWriter, "commit"),
    ],
)
def test_a_failing_stage_fails_the_shard_and_leaves_nothing(
    spec, monkeypatch, place, name, changes
):
    (plan,) = plans_of(spec, 1)
    extract = ShardExtractor(change(spec, **changes))
    error = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        number = 0 if name == "commit" else 2
        patch.setattr(place, name, fails_at(number, error, getattr(place, name)))
        with pytest.raises(OSError, match="No space left"):
            extract(plan)
    assert contents(spec.root) == {}
    # and the same extractor does it right the next time: nothing of the failure is in its batch
    extract(plan)
    other = replace(change(spec, **changes), root=spec.root.with_name("other"))
    ShardExtractor(other)(plan)
    assert contents(spec.root) == contents(other.root)


@pytest.mark.parametrize("changes", KINDS)
def test_a_shard_whose_last_image_cannot_be_written_is_not_committed(spec, monkeypatch, changes):
    (plan,) = plans_of(spec, 1)
    extract = ShardExtractor(change(spec, **changes))
    error = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        # with time for a commit that would not wait
        last = fails_at(COUNT - 1, error, sleepy(RowWriter._write, 0))
        patch.setattr(RowWriter, "_write", lambda *arguments: last(*arguments))
        with pytest.raises(OSError, match="No space left"):
            extract(plan)
    assert contents(spec.root) == {}


@pytest.mark.parametrize("changes", KINDS)
def test_pixels_are_let_go_once_the_network_has_seen_them(spec, monkeypatch, changes):
    seen = []
    write = RowWriter._write

    def watched(rows, ready, vectors):
        seen.extend(one.pixels.numel() for one in ready.resized)
        write(rows, ready, vectors)

    monkeypatch.setattr(RowWriter, "_write", watched)
    ShardExtractor(change(spec, **changes))(*plans_of(spec, 1))
    assert len(seen) == COUNT - 4  # every third image has no window, and so no scale
    assert set(seen) == {0}


# --- batches -------------------------------------------------------------------------------------


class Sized:
    """An image of which only the size is known."""

    def __init__(self, sizes):
        self.sizes = sizes


@pytest.mark.parametrize(
    ("sizes", "most", "groups"),
    [
        ("aabaa", 1, ["a", "a", "b", "a", "a"]),
        ("aabaa", 2, ["aa", "b", "aa"]),
        ("aaaaa", 2, ["aa", "aa", "a"]),
        ("aaabbb", 5, ["aaa", "bbb"]),
        ("", 3, []),
    ],
)
def test_images_of_one_size_one_after_the_other_are_a_group(sizes, most, groups):
    found = extractor.of_one_size(map(Sized, sizes), most)
    assert ["".join(image.sizes for image in group) for group in found] == groups


def vectors_of(spec):
    return vectors(pq.read_table(spec.root / "shards/00000.parquet"))


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_fc_batches_of_any_size_give_the_same_vectors(spec, rows):
    """Of one row, of some that cut images in two, and of all."""
    spec = change(spec, layer="fc7", vector_dtype="float32", fc_rows=rows)
    ShardExtractor(spec)(*plans_of(spec, 1))
    network = networks.load("zf5", seed=3, **OPTIONS)
    tables = pq.read_table(spec.windows / "0.parquet").to_pylist()
    expected = []
    for row in pq.read_table(spec.images).to_pylist():
        boxes = [
            [one[name] for name in ("x_min", "y_min", "x_max", "y_max")]
            for one in tables
            if one["image_id"] == row["image_id"]
        ]
        pixels = np.asarray(Image.open(row["file"]))
        given = np.array(boxes, float).reshape(-1, 4)
        expected.append(features.window_vectors(pixels, given, network, spec.features)[0])
    np.testing.assert_allclose(vectors_of(spec), np.concatenate(expected), rtol=1e-4, atol=1e-5)


def test_each_fc_batch_but_the_last_is_full(spec, monkeypatch):
    counted = []
    fc = networks.Network.fc

    def watched(network, vectors, layer):
        counted.append(len(vectors))
        return fc(network, vectors, layer)

    monkeypatch.setattr(networks.Network, "fc", watched)
    stats = ShardExtractor(change(spec, layer="fc7"))(*plans_of(spec, 1))
    assert stats.reused > 0  # or the test would prove less
    assert sum(counted) == stats.rows - stats.reused
    assert set(counted[:-1]) == {7}


def test_images_together_through_the_network(spec):
    for per_batch, name in ((1, "alone"), (4, "together")):
        each = replace(change(spec, images_per_batch=per_batch), root=spec.root / name)
        ShardExtractor(each)(*plans_of(spec, 1))
    alone, together = (vectors_of(replace(spec, root=spec.root / n)) for n in ("alone", "together"))
    np.testing.assert_allclose(alone, together, rtol=2e-3, atol=2e-3)
