"""Hours, prices and the probe's sample: arithmetic that a reader can redo."""

import pyarrow as pa
import pytest

from jobs.plan.hours import Rates, Work, project_hours
from jobs.plan.probing import sample

# 280 images, 20 in a shard and 16 in a chunk at most; 3 s an image, and 2 s on a CPU for windows.
WORK = Work(images=280, shards=14, chunks=18, bytes=280_000)
RATES = Rates(extract_s=3.0, windows_s=2.0, startup_s=11.0, source="told")


def test_one_worker_does_everything_one_after_the_other() -> None:
    done = project_hours(WORK, RATES, 1, hour_price=0.25)
    assert (done.rounds, done.extract_s) == (14, 11 + 280 * 3)
    assert done.windows_s == pytest.approx(280 * 2)
    assert done.total_s == pytest.approx(11 + 840 + 560)
    assert done.price == pytest.approx(1 * 1411 / 3600 * 0.25)
    assert done.bytes_per_s == pytest.approx(1000 / 3)


def test_whole_shards_decide_what_more_workers_bring() -> None:
    five = project_hours(WORK, RATES, 5, hour_price=0.25)
    assert (five.rounds, five.extract_s) == (3, 11 + 3 * 20 * 3)
    assert five.windows_s == pytest.approx(4 * 280 / 18 * 2)
    assert five.price == pytest.approx(5 * (191 + 4 * 280 / 18 * 2) / 3600 * 0.25)
    assert five.bytes_per_s == pytest.approx(5 * 1000 / 3)
    assert project_hours(WORK, RATES, 6).rounds == 3  # no sooner than five
    assert project_hours(WORK, RATES, 7).rounds == 2


def test_more_workers_than_shards_are_idle_and_cost_all_the_same() -> None:
    most, more = (project_hours(WORK, RATES, count, hour_price=1.0) for count in (18, 36))
    assert more.rounds == most.rounds == 1
    assert more.total_s == most.total_s
    assert most.price is not None
    assert more.price == pytest.approx(2 * most.price)
    assert more.bytes_per_s == most.bytes_per_s == pytest.approx(14 * 1000 / 3)


def test_windows_are_made_on_every_cpu_of_a_worker() -> None:
    assert project_hours(WORK, RATES, 2, cpus=3).windows_s == pytest.approx(3 * 280 / 18 * 2)
    told = Rates(3.0, None, 0.0, "told")
    assert project_hours(WORK, told, 2).windows_s is None
    assert project_hours(WORK, told, 2).total_s == 7 * 20 * 3
    assert project_hours(WORK, told, 2).price is None


def test_nothing_takes_no_time() -> None:
    nothing = project_hours(Work(0, 0, 0, 0), RATES, 3, hour_price=1.0)
    assert (nothing.rounds, nothing.total_s, nothing.price, nothing.bytes_per_s) == (0, 0, 0, 0)


def test_each_worker_warms_up_on_the_largest_image_and_measures_others() -> None:
    image_ids = pa.chunked_array([[f"image {k % 20}" for k in range(40)]])  # each in both sets
    first, second = sample(image_ids, "image 7", 2, images=5, seed=3)
    assert first[0] == second[0] == 7
    rest = [place % 20 for place in (*first[1:], *second[1:])]
    assert len(rest) == len(set(rest)) == 8
    assert 7 not in rest
    assert sample(image_ids, "image 7", 2, images=5, seed=3) == [first, second]
    assert sample(image_ids, "image 7", 2, images=5, seed=4) != [first, second]
    assert sample(image_ids[7:8], "image 7", 1, images=5, seed=3) == [[0]]
