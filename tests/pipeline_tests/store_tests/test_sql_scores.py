"""Scores of classes, overlaps of boxes and detections in SQL."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline import boxes
from pipeline.errors import InputError

ODD = """it's <b>"zebra"</b> 🦓"""


def test_of_two_that_know_a_class_the_last_is_meant(stored, known, scanned):
    one, other = known("cat", ODD), known("cat", seed=1)
    said = stored.sql(
        "SELECT score('cat', vector) AS s, score($odd, vector) AS o FROM windows "
        "ORDER BY image_id, window_id",
        {"odd": ODD},
        [one, other],
    )
    rows = scanned(stored).astype(np.float32)
    assert np.array_equal(said["s"].to_numpy(), other.score(rows)[:, 0])
    assert np.array_equal(said["o"].to_numpy(), one.score(rows)[:, 1])


def test_many_classes_in_one_query_are_each_its_own_scores(stored, known, scanned):
    classes = [f"class {k}" for k in range(7)]
    one, other = known(*classes[:5]), known(*classes[5:], seed=1)
    # The second part of the condition is asked of other rows than the first.
    said = stored.sql(
        f"SELECT {', '.join(f'score($c{k}, vector) AS s{k}' for k in range(7))} FROM windows "
        "WHERE score('class 2', vector) > 0 AND score('class 6', vector) > 0 "
        "ORDER BY image_id, window_id",
        {f"c{k}": name for k, name in enumerate(classes)},
        [one, other],
    )
    rows = scanned(stored)
    scores = np.concatenate([one.score(rows), other.score(rows)], axis=1)
    left = scores[(scores[:, 2] > 0) & (scores[:, 6] > 0)]
    assert 0 < len(left) < len(scores)
    assert np.array_equal(np.stack([said[f"s{k}"] for k in range(7)], axis=1), left)


def test_each_row_may_name_its_own_class(stored, known, scanned):
    cats = known("cat", ODD)
    quoted = ODD.replace("'", "''")
    said = stored.sql(
        f"SELECT score(CASE window_id WHEN 0 THEN 'cat' WHEN 1 THEN '{quoted}' END, vector) "
        "AS s FROM windows ORDER BY image_id, window_id",
        classifiers=[cats],
    )["s"].to_pylist()
    scores = cats.score(scanned(stored).astype(np.float32))
    # Rows of one group of the file, which come together.
    assert said[7:9] == [scores[7, 0], scores[8, 1]]
    assert said[9:] == [None] * 3


def test_a_class_that_nobody_knows_is_named_with_those_that_are_known(stored, known):
    query = "SELECT score('zebar', vector) FROM windows"
    with pytest.raises(InputError) as said:
        stored.sql(query, classifiers=[known("cat", "zebra")])
    assert str(said.value) == (
        "no classifier knows the class 'zebar'; the 2 known are cat, zebra; did you mean zebra?"
    )
    with pytest.raises(InputError, match=r"^score\('zebar', …\) needs classifiers"):
        stored.sql(query)


def test_classifiers_of_other_vectors_are_refused(stored, known):
    with pytest.raises(InputError, match="trained on vectors with network = resnet"):
        stored.sql(
            "SELECT 1", classifiers=[known("cat"), known("x", made_from={"network": "resnet"})]
        )


def test_overlaps_are_those_of_the_specification(stored):
    random = np.random.default_rng(0)
    first, sizes = random.integers(0, 5, (2, 40, 2)), random.integers(-1, 9, (2, 40, 2))
    corners = np.concatenate([first[0], first[0] + sizes[0], first[1], first[1] + sizes[1]], axis=1)
    corners = (corners / 7).astype(np.float32)  # empty and reversed ones among them
    values = ", ".join(
        f"({', '.join(map(str, row))}, {n})" for n, row in enumerate(corners.tolist())
    )
    said = stored.sql(
        f"SELECT iou({', '.join(f'{c}::FLOAT' for c in 'abcdefgh')}) AS o "
        f"FROM (VALUES {values}) t(a, b, c, d, e, f, g, h, n) ORDER BY n"
    )
    wanted = [float(boxes.iou([row[:4]], [row[4:]])[0, 0]) for row in corners]
    assert said["o"].to_pylist() == wanted
    assert 0 < sum(overlap > 0 for overlap in wanted) < 40
    by_hand = stored.sql(
        "SELECT iou(0, 0, 10, 10, 5, 5, 15, 15) AS part, iou(0, 0, 7, 7, 7, 0, 9, 7) AS beside, "
        "iou(3, 3, 3, 3, 3, 3, 3, 3) AS empty, iou(0, 0, NULL, 10, 5, 5, 15, 15) AS unknown"
    )
    assert by_hand.to_pylist() == [
        {"part": 25 / (100 + 100 - 25), "beside": 0.0, "empty": 0.0, "unknown": None}
    ]


def test_detections_are_a_table(stored):
    assert len(stored.sql("FROM detections")) == 0
    found = pa.table(
        {"image_id": ["a"], "class": [ODD], "score": pa.array([0.5], pa.float32())}
        | {name: pa.array([1.0], pa.float32()) for name in ("x_min", "y_min", "x_max", "y_max")}
    )
    said = stored.sql(
        'SELECT "class" AS c FROM detections WHERE "class" = ?', [ODD], detections=found
    )
    assert said["c"].to_pylist() == [ODD]
