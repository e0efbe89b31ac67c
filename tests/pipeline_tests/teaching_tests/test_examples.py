"""Marks from text, tables and COCO files, and what is wrong with them."""

import csv
import json

import pytest

from pipeline.errors import InputError
from pipeline.teaching import Batch, Mark
from pipeline.teaching.examples import (
    PROVENANCE,
    from_coco,
    from_csv,
    from_sql,
    from_text,
    from_windows,
    require_known,
    to_coco,
    to_csv,
)

MARKS = [
    Mark("000005", (10.5, 20.0, 110.5, 220.0)),
    Mark("a,b", (0.0, 0.0, 3.0, 5.0), yes=False),
    Mark("000005", (1.0, 2.0, 4.0, 7.0)),
]
BATCH = Batch("cat", source="page", who="ann", when="2026-11-23T07:11:13+00:00", why='"no", a dog')
ORIGINS = dict.fromkeys(MARKS, BATCH)
SAID = ["page", "ann", "2026-11-23T07:11:13+00:00", '"no", a dog']  # source, who, when, why
SIZES = {"000005": (500, 375), "a,b": (11, 13)}


def test_a_table_is_read_as_it_was_written(tmp_path):
    to_csv(tmp_path / "marks.csv", ORIGINS)
    assert from_csv(tmp_path / "marks.csv") == MARKS
    rows = list(csv.DictReader((tmp_path / "marks.csv").read_text().splitlines()))
    assert [[row[name] for name in PROVENANCE] for row in rows] == [SAID] * 3
    (tmp_path / "bare.csv").write_text("x_max,image_id,x_min,y_min,y_max\n7,9,3,5,11\n")
    assert from_csv(tmp_path / "bare.csv") == [Mark("9", (3.0, 5.0, 7.0, 11.0))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image_id,x_min,y_min,x_max\n", r"bad.csv has no column y_max; it has image_id, x_min"),
        ("image_id,x_min,y_min,x_max,y_max\na,1,2,3,4\na,1,x,3,4\n", "line 3: y_min is 'x'"),
        ("image_id,x_min,y_min,x_max,y_max\na,1,2,3\n", "line 2: y_max is None"),
        ("image_id,x_min,y_min,x_max,y_max\na,1,nan,3,4\n", "line 2: y_min is 'nan'"),
        ("image_id,x_min,y_min,x_max,y_max\na,3,2,1,4\n", r"line 2: the box \[3.0, 2.0, 1.0, 4"),
        ("image_id,x_min,y_min,x_max,y_max\n,1,2,3,4\n", "line 2: image_id is empty"),
        ("image_id,x_min,y_min,x_max,y_max,verdict\na,1,2,3,4,maybe\n", "verdict is 'maybe'"),
    ],
)
def test_a_bad_table_is_named_by_line_and_field(tmp_path, text, says):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        from_csv(tmp_path / "bad.csv")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bad.csv cannot be read"):
        from_csv(tmp_path / "bad.csv")
    with pytest.raises(InputError, match=r"bad.csv cannot be read"):
        from_coco(tmp_path / "bad.csv", "cat", SIZES.get)


def test_a_coco_file_is_read_as_it_was_written(tmp_path):
    to_coco(tmp_path / "marks.json", "cat", ORIGINS, SIZES.get)
    assert from_coco(tmp_path / "marks.json", "cat", SIZES.get) == [MARKS[0], MARKS[2], MARKS[1]]
    held = json.loads((tmp_path / "marks.json").read_text())
    assert held["annotations"][0]["bbox"] == [10.5, 20.0, 100.0, 200.0]
    for row in (*held["annotations"], *held["rejected"]):
        assert [row[name] for name in PROVENANCE] == SAID
    assert held["images"][0] == {"id": 1, "file_name": "000005", "width": 500, "height": 375}


COCO = {
    "images": [{"id": 7, "file_name": "train/000005.jpg"}, {"id": 8, "file_name": "other.jpg"}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 3, "bbox": [3, 5, 11, 13]},
        {"image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 1]},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}


def test_boxes_of_coco_become_half_open(tmp_path):
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    found = from_coco(tmp_path / "coco.json", "cat", SIZES.get)
    assert found == [Mark("000005", (3.0, 5.0, 14.0, 18.0))]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"categories": []}, "no category 'cat'; it has "),
        ({"images": 3}, "no list of objects 'images': it is no COCO file"),
        ({"categories": [{"id": [3], "name": "cat"}]}, r"categories\[0\]: id is \[3\]; give a"),
        ({"images": [{"id": {}, "file_name": "x"}]}, r"images\[0\]: id is {}; give a number"),
        ({"annotations": [{"image_id": 7, "category_id": {}}]}, r"\[0\]: category_id is {}; give"),
        ({"annotations": [{"image_id": [7], "category_id": 3}]}, r"\[0\]: image_id is \[7\]; giv"),
        ({"annotations": [{"image_id": 9, "category_id": 3}]}, r"\[0\]: image_id 9 is not in imag"),
        ({"annotations": [{"image_id": 7, "category_id": 3}]}, r"\[0\]: bbox is None"),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, "x", 4]}]},
            r"annotations\[0\]: bbox is 'x'; give a number",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 0, 4]}]},
            r"annotations\[0\]: the box \[1.0, 2.0, 1.0, 6.0\]",
        ),
    ],
)
def test_a_bad_coco_file_is_named_by_place_and_field(tmp_path, change, says):
    (tmp_path / "bad.json").write_text(json.dumps({**COCO, **change}))
    with pytest.raises(InputError, match=says):
        from_coco(tmp_path / "bad.json", "cat", SIZES.get)


@pytest.mark.parametrize("text", ["a:1,2,3", "1,2,3,4", "a:1,2,3,x", "a", ":1,2,3,4"])
def test_a_text_that_is_no_box_is_refused(text):
    with pytest.raises(InputError, match=r"is no box: give IMAGE_ID:x_min"):
        from_text(text)


def test_marks_outside_of_images_are_refused():
    require_known(MARKS, SIZES.get, "store")
    with pytest.raises(InputError, match=r"store has no image nothere"):
        require_known([Mark("nothere", (0.0, 0.0, 1.0, 1.0))], SIZES.get, "store")
    with pytest.raises(InputError, match=r"not inside image 000005, which has 500×375 pixels"):
        require_known([Mark("000005", (0.0, 0.0, 501.0, 9.0))], SIZES.get, "store")


def test_windows_are_named_or_selected(make_store, made, tmp_path):
    windows = [[0, 0, 10, 10], [5, 7, 30, 40]]
    held = make_store(tmp_path, [{"a'b": made([[1.0], [2.0]], windows)}], 1)
    wide = Mark("a'b", (5.0, 7.0, 30.0, 40.0))
    assert from_windows(held, ["a'b/1"], True) == [wide]
    assert from_sql(held, "x_max - x_min > 20 -- wide") == [wide]
    for name, says in (("a'b/2", "has no window 2"), ("c/0", "has no image c"), ("c", "give IMA")):
        with pytest.raises(InputError, match=says):
            from_windows(held, [name], True)
    with pytest.raises(InputError, match=r"no window of .* satisfies 'x_max > 90'"):
        from_sql(held, "x_max > 90")
    with pytest.raises(InputError, match="the query failed"):
        from_sql(held, "nothere = 1")
