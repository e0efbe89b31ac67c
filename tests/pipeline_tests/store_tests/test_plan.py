"""Which images go into which shard."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.store import plan_shards
from pipeline.store.plan import SCALARS_BYTES, ProjectedBytes, projected_bytes

THREE = [("b", 2, 900), ("a", 3, 800), ("c", 4, 700)]


def table(images):
    """A row for each `(image_id, windows, bytes of the file)`."""
    names, windows, sizes = ([row[place] for row in images] for place in range(3))
    columns = [pa.array(names, pa.string()), pa.array(windows, pa.int64())]
    return pa.table([*columns, pa.array(sizes, pa.int64())], ["image_id", "windows", "bytes"])


def groups(images, row_bytes, shard_bytes):
    return [plan.image_ids for plan in plan_shards(table(images), row_bytes, shard_bytes, "made")]


def test_images_fill_shards_in_the_order_of_their_ids():
    assert groups(THREE, 10, 50) == [("a", "b"), ("c",)]  # 3 + 2 rows of 10 bytes just fit
    assert groups(THREE, 10, 49) == [("a",), ("b",), ("c",)]
    assert groups(THREE, 10, 90) == [("a", "b", "c")]
    assert groups(THREE[::-1], 10, 50) == groups(THREE, 10, 50)


def test_a_plan_counts_rows_and_bytes():
    first, second = plan_shards(table(THREE), 7, 35, "made")
    assert (first.rows, first.bytes) == (5, 35)
    assert (second.rows, second.bytes) == (4, 28)


def test_an_image_too_large_for_any_shard_has_its_own():
    assert groups([("a", 1, 9), ("b", 1000, 9), ("c", 1, 9)], 10, 50) == [("a",), ("b",), ("c",)]


def test_images_without_windows_are_planned_too():
    assert groups([("a", 0, 9), ("b", 0, 9)], 10, 50) == [("a", "b")]
    assert groups([], 10, 50) == []


def ids(images=THREE, row_bytes=10, shard_bytes=50, made_from="made"):
    plans = plan_shards(table(images), row_bytes, shard_bytes, made_from)
    assert [plan.shard_id for plan in plans] == plans.ids
    return plans.ids


def test_ids_are_ordered_and_repeatable():
    assert ids() == ids()
    assert [shard_id[:6] for shard_id in ids()] == ["00000-", "00001-"]
    assert len({shard_id[6:] for shard_id in ids()}) == 2


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"made_from": "other"}, [False, False]),
        ({"images": [("b", 2, 901), *THREE[1:]]}, [False, True]),  # the file changed its size
        ({"images": [*THREE[:2], ("c", 3, 700)]}, [True, False]),
        ({"shard_bytes": 51}, [True, True]),  # the same groups hold the same
    ],
)
def test_ids_change_with_what_a_shard_is_made_from(change, same):
    assert [a == b for a, b in zip(ids(), ids(**change), strict=True)] == same


image_lists = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 9)).map(
    lambda rows: [(image_id, count, 1) for image_id, count in rows.items()]
)


@given(image_lists, st.integers(1, 30))
def test_every_image_is_in_one_shard_and_none_is_larger_than_it_must(images, shard_bytes):
    plans = plan_shards(table(images), 1, shard_bytes, "made")
    counts = {image_id: rows for image_id, rows, _ in images}
    planned = [image_id for plan in plans for image_id in plan.image_ids]
    assert planned == sorted(counts)
    for plan in plans:
        assert plan.rows == sum(counts[image_id] for image_id in plan.image_ids)
        assert plan.bytes <= shard_bytes or sum(counts[i] > 0 for i in plan.image_ids) == 1
    for plan, after in pairwise(plans):
        assert plan.bytes + counts[after.image_ids[0]] > shard_bytes


def by_sixteen(width, height):
    if min(width, height) < 16:
        raise InputError("no cell")
    return width // 16, height // 16


def test_bytes_of_both_kinds_by_hand():
    # 100x50 px at scale 64 becomes 128x64: 8 x 4 cells; at 160: 320x160: 20 x 10; 3 channels
    found = projected_bytes([(100, 50, 7)] * 2, (64, 160), by_sixteen, 3, 3 * 5)
    scalars = 14 * SCALARS_BYTES
    assert found == ProjectedBytes(14 * 15 * 2 + scalars, 2 * (32 + 200) * 3 * 2 + scalars)
    # clamped to 160x80 at both scales above 80, in four bytes a number, fc vectors of 11
    clamped = projected_bytes([(100, 50, 7)], (64, 160), by_sixteen, 3, 11, 4, max_side_px=160)
    scalars = 7 * SCALARS_BYTES
    assert clamped == ProjectedBytes(7 * 11 * 4 + scalars, (32 + 50) * 3 * 4 + scalars)


def test_images_without_windows_or_cells_are_projected_too():
    assert projected_bytes([], (64,), by_sixteen, 3, 15) == ProjectedBytes(0, 0)
    assert projected_bytes([(50, 50, 0)], (64,), by_sixteen, 3, 15) == ProjectedBytes(0, 16 * 6)
    assert projected_bytes([(50, 50, 0)], (8,), by_sixteen, 3, 15) == ProjectedBytes(0, 0)


def test_maps_fill_shards_by_their_own_bytes():
    images = table(THREE).append_column("map_bytes", [[30, 20, 7]])
    plans = plan_shards(images, 0, 50, "made")
    assert [(plan.image_ids, plan.rows, plan.bytes) for plan in plans] == [
        (("a", "b"), 5, 50),
        (("c",), 4, 7),
    ]


def test_a_shard_has_no_more_images_than_it_may():
    images = [(name, 0, 1) for name in "abcde"]
    plans = plan_shards(table(images), 10, 50, "made", shard_images=2)
    assert [plan.image_ids for plan in plans] == [("a", "b"), ("c", "d"), ("e",)]


def test_plans_of_what_is_missing_are_those_of_the_whole():
    images = table([(name, 0, 1) for name in "abcde"])
    plans = plan_shards(images, 10, 50, "made", shard_images=2)
    missing = plans.without({plans.ids[0], "another"})
    assert list(missing) == list(plans)[1:]
    assert [list(missing[1:]), list(missing[:0])] == [list(plans)[2:], []]
    assert len(plans.without(set(plans.ids))) == 0
    with pytest.raises(IndexError):
        _ = missing[2]
