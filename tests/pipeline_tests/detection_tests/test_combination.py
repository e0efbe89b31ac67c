"""Model combination: windows of several models pooled, and suppressed once."""

from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.boxes import iou
from pipeline.combination import CombineSpec, combine, combine_shard, spans
from pipeline.detection import read_detections
from pipeline.store.schema import DETECTIONS, box_array

HERE, NEAR, THERE = [0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]


def table(*rows):
    """Rows of (image, class, score, box)."""
    columns = list(zip(*((i, c, s, *b) for i, c, s, b in rows), strict=True)) or [[]] * 7
    arrays = [pa.array(list(c), field.type) for c, field in zip(columns, DETECTIONS, strict=True)]
    return pa.table(arrays, schema=DETECTIONS)


def told(found):
    return [
        (row["image_id"], row["class"], round(row["score"], 3), row["y_max"])
        for row in found.to_pylist()
    ]


def test_a_more_confident_window_of_one_model_suppresses_the_others():
    first = table(("a", "cat", 0.5, HERE), ("a", "cat", 0.4, THERE))
    second = table(("a", "cat", 0.7, NEAR), ("a", "dog", 0.1, HERE), ("b", "cat", 0.2, HERE))
    found = combine([first, second], 0.3)
    assert told(found) == [
        ("a", "cat", 0.7, 8),
        ("a", "cat", 0.4, 60),
        ("a", "dog", 0.1, 10),
        ("b", "cat", 0.2, 10),
    ]
    assert told(combine([second, first], 0.3)) == told(found)
    assert len(combine([first, second], 0.8)) == 5  # 80 of 100 px are not more than 0.8


def test_of_equal_scores_the_first_models_stays():
    first, second = table(("a", "cat", 0.5, HERE)), table(("a", "cat", 0.5, NEAR))
    assert told(combine([first, second], 0.3)) == [("a", "cat", 0.5, 10)]
    assert told(combine([second, first], 0.3)) == [("a", "cat", 0.5, 8)]


def test_nothing_is_found_in_nothing():
    assert combine([table(), table()], 0.3).schema == DETECTIONS
    assert len(combine([table(), table()], 0.3)) == 0


def test_the_same_told_plainly():
    random = np.random.default_rng(0)
    tables = []
    for _ in range(3):
        corners = random.integers(0, 40, (60, 2))
        boxes = np.hstack([corners, corners + random.integers(5, 30, (60, 2))]).tolist()
        names = random.choice(["a", "b", "c"], (60, 2)).tolist()
        scores = random.integers(0, 12, 60) / 4
        tables.append(
            table(*((i, k, s, b) for (i, k), s, b in zip(names, scores, boxes, strict=True)))
        )
    found = combine(tables, 0.3)
    pooled = [row for each in tables for row in each.to_pylist()]
    expected = []
    for image, class_ in product("abc", "abc"):
        own = [r for r in pooled if (r["image_id"], r["class"]) == (image, class_)]
        kept = []
        for row in sorted(own, key=lambda row: -row["score"]):  # stable
            box = [[row[k] for k in ("x_min", "y_min", "x_max", "y_max")]]
            others = [[r[k] for k in ("x_min", "y_min", "x_max", "y_max")] for r in kept]
            if not others or iou(box, others).max() <= 0.3:
                kept.append(row)
        expected += kept
    assert found.to_pylist() == expected
    assert 20 < len(expected) < 150


def test_shards_of_the_first_model_say_which_images_belong_together(make_store, made, tmp_path):
    """The second model's tables end at other images."""
    images = {name: made([[1, 0]], [HERE]) for name in "abc"}
    shards = [{"a": images["a"], "b": images["b"]}, {"c": images["c"]}]
    held = make_store(tmp_path / "store", shards, 2)
    rows = {name: (name, "cat", 0.5, HERE) for name in "abc"}
    for folder, files in (("one", [["a", "b"], ["c"]]), ("two", [["a"], ["b", "c"]])):
        (tmp_path / folder).mkdir()
        for number, names in enumerate(files):
            part = table(*(rows[name] for name in names))
            pq.write_table(part, tmp_path / folder / f"{number}.parquet")
    spec = CombineSpec(held, (spans(tmp_path / "one"), spans(tmp_path / "two")), 0.3)
    stats = [combine_shard(spec, entry.shard_id, tmp_path / "out") for entry in held.shards]
    assert [(each.images, each.windows, each.detections) for each in stats] == [
        (2, 4, 2),
        (1, 2, 1),
    ]
    found = read_detections(tmp_path / "out")
    assert found["image_id"].to_pylist() == ["a", "b", "c"]
    assert box_array(found).tolist() == [HERE] * 3


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_model_with_itself_gains_nothing(count):
    one = table(("a", "cat", 0.5, HERE), ("a", "cat", 0.4, THERE), ("b", "dog", 0.3, NEAR))
    assert combine([one] * count, 0.3).equals(one)
