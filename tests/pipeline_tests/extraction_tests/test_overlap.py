"""Whatever the stages' timing: the same bytes, errors as they were, nothing left behind."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from pipeline import features, images
from pipeline.extraction import ShardExtractor
from pipeline.extraction.writing import RowWriter
from pipeline.store import ShardWriter
from pipeline.store.local import LocalFolder

WAIT_S = 20
COUNT = 12  # images of `twelve`


@pytest.fixture
def spec(twelve):
    return twelve


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
def test_the_same_bytes_whoever_is_slow(spec, changes, monkeypatch, change, plans_of):
    spec, plans = change(spec, **changes), plans_of(4)
    serial = ShardExtractor(replace(spec, decode_threads=1))
    for plan in plans:
        serial(plan)
    expected = contents(spec.root.path)
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
            again = replace(spec, root=LocalFolder(spec.root.path.with_name(name)))
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(ShardExtractor(again), plans))
        assert contents(again.root.path) == expected


def test_the_next_shard_is_at_work_while_one_is_committed(spec, monkeypatch, plans_of):
    """And yet the first is answered for only when its record lies there."""
    first, second = plans_of(2)
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
        assert (spec.root.path / "records" / f"{plan.shard_id}.json").is_file()
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
    spec, monkeypatch, threads, plans_of
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
    thread = threading.Thread(target=extract, args=plans_of(1))
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
    spec, monkeypatch, place, name, changes, change, plans_of
):
    (plan,) = plans_of(1)
    extract = ShardExtractor(change(spec, **changes))
    error = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        number = 0 if name == "commit" else 2
        patch.setattr(place, name, fails_at(number, error, getattr(place, name)))
        with pytest.raises(OSError, match="No space left"):
            extract(plan)
    assert contents(spec.root.path) == {}
    # and the same extractor does it right the next time: nothing of the failure is in its batch
    extract(plan)
    other = replace(change(spec, **changes), root=LocalFolder(spec.root.path.with_name("other")))
    ShardExtractor(other)(plan)
    assert contents(spec.root.path) == contents(other.root.path)


@pytest.mark.parametrize("changes", KINDS)
def test_a_shard_whose_last_image_cannot_be_written_is_not_committed(
    spec, monkeypatch, changes, change, plans_of
):
    (plan,) = plans_of(1)
    extract = ShardExtractor(change(spec, **changes))
    error = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        # with time for a commit that would not wait
        last = fails_at(COUNT - 1, error, sleepy(RowWriter._write, 0))
        patch.setattr(RowWriter, "_write", lambda *arguments: last(*arguments))
        with pytest.raises(OSError, match="No space left"):
            extract(plan)
    assert contents(spec.root.path) == {}


@pytest.mark.parametrize("changes", KINDS)
def test_pixels_are_let_go_once_the_network_has_seen_them(
    spec, monkeypatch, changes, change, plans_of
):
    seen = []
    write = RowWriter._write

    def watched(rows, ready, *given):
        seen.extend(one.pixels.numel() for one in ready.resized)
        write(rows, ready, *given)

    monkeypatch.setattr(RowWriter, "_write", watched)
    ShardExtractor(change(spec, **changes))(*plans_of(1))
    assert len(seen) == COUNT - 4  # every third image has no window, and so no scale
    assert set(seen) == {0}
