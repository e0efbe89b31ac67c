"""The devkit's result files: 1-based and inclusive outside, SPEC §1 inside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections, read_devkit, write_devkit

ROW = {"image_id": "000005", "class": "cat", "score": 0.5, "box": [0, 4, 10, 20]}


def test_boxes_convert_at_this_edge(tmp_path):
    (path,) = write_devkit([ROW], tmp_path)
    assert path.name == "comp4_det_test_cat.txt"
    assert path.read_text() == "000005 0.5 1.0 5.0 10.0 20.0\n"
    assert read_devkit(tmp_path).to_pylist() == [
        {"image_id": "000005", "class": "cat", "score": 0.5}
        | {"x_min": 0, "y_min": 4, "x_max": 10, "y_max": 20}
    ]


side = st.floats(0, 500, width=32)


@given(st.lists(st.tuples(st.floats(-9, 9), side, side, side, side), max_size=5))
def test_round_trip(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("devkit")
    rows = [
        {"image_id": f"{k:06d}", "class": "dining table", "score": score}
        | {"x_min": x, "y_min": y, "x_max": x + w, "y_max": y + h}
        for k, (score, x, y, w, h) in enumerate(numbers)
    ]
    for row in rows:
        row |= {name: float(np.float32(row[name])) for name in ("x_max", "y_max")}
    write_devkit(rows, folder, classes=["dining table"])
    back = read_devkit(folder).to_pylist()
    assert len(back) == len(rows)
    for row, same in zip(rows, back, strict=True):
        assert {name: same[name] for name in ("image_id", "class", "score", "x_max")} == {
            name: row[name] for name in ("image_id", "class", "score", "x_max")
        }
        # 1 + x drops digits of a minimum next to 0; float32 keeps 24 of its bits
        assert same["x_min"] == pytest.approx(row["x_min"], abs=2**-50)


def test_classes_without_detections_get_a_file(tmp_path):
    paths = write_devkit([], tmp_path, "comp3_det_val", ["cat", "dog"])
    assert [path.name for path in paths] == ["comp3_det_val_cat.txt", "comp3_det_val_dog.txt"]
    table = read_devkit(tmp_path, "comp3_det_val")
    assert len(table) == 0
    truth = [{"image_id": "a", "class": "cat", "box": (0, 0, 1, 1)}]
    assert evaluate_detections(table, truth).mean_ap == 0.0


@pytest.mark.parametrize("line", ["000005 0.5 1 2 3", "000005 0.5 1 2 3 x", "000005"])
def test_bad_line(tmp_path, line):
    (tmp_path / "comp4_det_test_cat.txt").write_text(f"000005 0.5 1 2 3 4\n\n{line}\n")
    with pytest.raises(InputError, match=r"comp4_det_test_cat.txt, line 3: expected"):
        read_devkit(tmp_path)


def test_no_files(tmp_path):
    with pytest.raises(InputError, match=r"comp4_det_test_<class>\.txt"):
        read_devkit(tmp_path)


@pytest.mark.parametrize(
    "change", [{"image_id": "two words"}, {"class": "../escape"}, {"image_id": ""}, {"class": ""}]
)
def test_names_the_format_cannot_carry(tmp_path, change):
    with pytest.raises(InputError, match="cannot"):
        write_devkit([ROW | change], tmp_path)
    assert not list(tmp_path.rglob("*.txt"))
