"""Every kind of table a user may hold gives the same evaluation."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections, match_detections
from pipeline.evaluation.tables import SIDES, read_detections, read_ground_truth

ROWS = [
    {"image_id": "a", "class": "cat", "score": 0.5, "box": [1.0, 2.0, 12.0, 15.0]},
    {"image_id": "b", "class": "dog", "score": 0.25, "box": [3.0, 5.0, 20.0, 24.0]},
    {"image_id": "a", "class": "cat", "score": 0.75, "box": [30.0, 31.0, 53.0, 60.0]},
]


class LikePandas:
    """What is used of a data frame: its columns' names, and square brackets."""

    def __init__(self, columns):
        self._columns = columns

    @property
    def columns(self):
        return list(self._columns)

    def __getitem__(self, name):
        return self._columns[name]


def by_column(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def with_sides(rows):
    plain = by_column(rows)
    boxes = np.array(plain.pop("box"))
    return plain | {side: boxes[:, k] for k, side in enumerate(SIDES)}


def as_objects(rows):
    boxes = np.empty(len(rows), dtype=object)
    boxes[:] = [np.array(row["box"]) for row in rows]
    return LikePandas(by_column(rows) | {"box": boxes})


def as_dictionaries(rows):
    table = pa.table(with_sides(rows))
    return pa.concat_tables(
        [
            part.set_column(0, "image_id", part["image_id"].dictionary_encode())
            for part in (table.slice(0, 1), table.slice(1))
        ]
    )


def as_fixed_lists(rows):
    table = pa.Table.from_pylist([ROWS[1], *rows]).slice(1)  # a slice has its own first value
    fixed = table["box"].cast(pa.list_(pa.float64(), 4))
    return table.set_column(table.column_names.index("box"), "box", fixed)


TABLES = [
    as_fixed_lists,
    lambda rows: pa.concat_tables([pa.Table.from_pylist([row]) for row in rows]),
    list,
    tuple,
    by_column,
    with_sides,
    as_objects,
    as_dictionaries,
    lambda rows: pa.table(with_sides(rows)),
    lambda rows: pa.Table.from_pylist(rows),
    lambda rows: LikePandas(with_sides(rows)),
    lambda rows: {k: np.array(v) for k, v in with_sides(rows).items()},
]


@pytest.mark.parametrize("made", TABLES)
def test_all_kinds_of_tables(made):
    table = read_detections(made(ROWS))
    np.testing.assert_array_equal(table.boxes, [row["box"] for row in ROWS])
    assert [table.images.names[k] for k in table.images.codes] == ["a", "b", "a"]
    assert [table.classes.names[k] for k in table.classes.codes] == ["cat", "dog", "cat"]
    assert evaluate_detections(made(ROWS), made(ROWS)).mean_ap == 1.0


def test_difficult_may_be_left_out_or_come_late():
    assert not read_ground_truth(ROWS).difficult.any()
    late = [ROWS[0], ROWS[1] | {"difficult": True}]
    assert read_ground_truth(late).difficult.tolist() == [False, True]


def test_float32_boxes_stay_float32():
    table = with_sides(ROWS)
    table |= {side: table[side].astype(np.float32) for side in SIDES}
    assert read_detections(table).boxes.dtype == np.float32


def test_empty_tables_of_every_kind():
    nothing = pa.table(with_sides(ROWS)).slice(0, 0)
    for empty in ([], {}, nothing, {name: [] for name in ROWS[0]}):
        assert match_detections(empty, ROWS).outcomes.tolist() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"score": float("nan")}, "row 1 of image 'b' has a score that is not a number"),
        ({"score": None}, "not a number"),
        ({"box": [1.0, 2.0, float("nan"), 4.0]}, "not finite; row 1 has"),
        ({"box": [1.0, 2.0, float("inf"), 4.0]}, "not finite"),
        ({"box": [9.0, 2.0, 1.0, 4.0]}, "row 1 of image 'b'.*minimum exceeds"),
        ({"image_id": None}, "'image_id' has 1 empty"),
        ({"class": 7}, "all text or all whole numbers"),
        ({"score": "high"}, "'score' must hold numbers"),
        ({"box": [1.0, 2.0, 3.0]}, "'box' must hold numbers"),
    ],
)
def test_bad_rows(change, says):
    with pytest.raises(InputError, match=says):
        read_detections([ROWS[0], ROWS[1] | change])


def test_bad_tables():
    with pytest.raises(InputError, match="no column 'score' among"):
        read_detections(pa.table(with_sides(ROWS)).drop_columns("score"))
    with pytest.raises(InputError, match="row 1 has no 'score'"):
        read_detections([ROWS[0], {"image_id": "a", "class": "cat", "box": (0, 0, 1, 1)}])
    with pytest.raises(InputError, match="differ in length"):
        read_detections(by_column(ROWS) | {"score": [1.0]})
    short = pa.Table.from_pylist([ROWS[0] | {"box": [1.0, 2.0, 3.0]}] * 2)
    with pytest.raises(InputError, match=r"shape \(2, 3\)"):
        read_detections(short)
    with pytest.raises(InputError, match=r"shape \(3, 2\)"):
        read_detections(by_column(ROWS) | {"box": np.zeros((3, 2))})
    with pytest.raises(InputError, match="row 0 of image 'a' has a box without area"):
        read_ground_truth([{"image_id": "a", "class": "cat", "box": (3, 3, 3, 9)}])
