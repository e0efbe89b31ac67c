"""From detections to numbers, tables and pictures."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import config, index
from pipeline.datasets.records import ImageRecord, Object
from pipeline.detection import DETECTIONS
from pipeline.outcome import OutcomeSpec, illustrate, judge
from pipeline.report.page import results
from pipeline.store.files import number
from pipeline.store.schema import BOX_COLUMNS

LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)


@pytest.fixture
def spec(tmp_path):
    """Two test images with two cats and a dog each."""
    objects = (Object("cat", LEFT), Object("cat", RIGHT), Object("dog", (40.0, 5.0, 50.0, 25.0)))
    records = [ImageRecord(name, tmp_path / f"{name}.png", 60, 30, objects) for name in "ab"]
    pq.write_table(index.images_table(records, "test"), tmp_path / "images.parquet")
    pq.write_table(index.objects_table(records, "test"), tmp_path / "objects.parquet")
    for name in "ab":
        Image.fromarray(np.full((30, 60, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    windows = tmp_path / "windows"
    windows.mkdir()
    boxes = [[0, 0, 10, 10], [20, 0, 30, 6]]  # a cat, and 6/10 of the other
    columns = dict(zip(BOX_COLUMNS, np.array(boxes, np.float32).T, strict=True))
    word = pa.array(["grid", "grid"]).dictionary_encode()
    found = pa.table({"image_id": ["a", "a"], "window_id": [0, 1], **columns, "source": word})
    pq.write_table(found, windows / "0.parquet")
    return OutcomeSpec(
        detections=tmp_path / "detections",
        images=tmp_path / "images.parquet",
        objects=tmp_path / "objects.parquet",
        classes=("cat", "dog", "bird"),
        settings=config.Evaluation(pictures=5),
        recall=0.75,
        windows=windows,
        max_pixels=60 * 30,
        judged=tmp_path / "out",
    )


def detected(spec, *rows):
    spec.detections.mkdir(exist_ok=True)
    names = DETECTIONS.names
    for place, row in enumerate(rows):
        values = [*row[:3], *row[3]]
        table = pa.Table.from_pylist([dict(zip(names, values, strict=True))], schema=DETECTIONS)
        pq.write_table(table, spec.detections / f"{place}.parquet")


def test_average_precision_by_hand(spec, tmp_path):
    # ranked: true, false, true, of four cats; no dog is found
    detected(
        spec,
        ("a", "cat", 0.9, LEFT),
        ("a", "cat", 0.8, (45.0, 0.0, 55.0, 10.0)),
        ("b", "cat", 0.7, RIGHT),
    )
    stats = judge(spec, tmp_path / "out")
    # recall 1/4 at precision 1 reaches 0, .1, .2; recall 1/2 at 2/3 reaches .3, .4, .5
    assert stats.ap["cat"] == pytest.approx((3 + 3 * 2 / 3) / 11)
    assert stats.ap["dog"] == 0
    assert stats.ap["bird"] is None  # no bird to find
    assert stats.mean_ap == pytest.approx(5 / 11 / 2)
    assert stats.mean_ap_area == pytest.approx((1 / 4 + 1 / 4 * 2 / 3) / 2)
    assert stats.detections == 3
    written = json.loads((tmp_path / "out/ap.json").read_text())
    assert written["ap"] == stats.ap
    text = (tmp_path / "out/ap.txt").read_text()
    assert "cat" in text
    assert "75" in text  # the recall of the windows


def test_no_detections(spec, tmp_path):
    stats = judge(spec, tmp_path / "out")
    assert (stats.mean_ap, stats.detections) == (0, 0)
    assert stats.coco["AP"] == 0
    assert json.loads((tmp_path / "out/ap.json").read_text())["ap"]["bird"] is None


def test_nothing_to_find(spec, tmp_path):
    empty = pq.read_table(spec.objects).slice(0, 0)
    pq.write_table(empty, spec.objects)
    detected(spec, ("a", "cat", 0.9, LEFT))
    stats = judge(spec, tmp_path / "out")
    assert stats.mean_ap is None or not math.isnan(stats.mean_ap)
    json.loads((tmp_path / "out/ap.json").read_text(), parse_constant=pytest.fail)


def test_pictures_of_readable_test_images(spec, tmp_path):
    detected(spec, ("a", "cat", 0.9, LEFT), ("b", "cat", 0.7, RIGHT))
    stats = illustrate(spec, tmp_path / "out")
    pictures = {path.name for path in (tmp_path / "out/pictures").rglob("*.png")}
    assert pictures == {"a.png", "b.png", "sheet.png"}
    assert stats.pictures == 2
    smaller = replace(spec, max_pixels=60 * 30 - 1)  # by which the extraction left both out
    assert illustrate(smaller, tmp_path / "small").pictures == 0
    assert results.read(tmp_path / "small").unopened == 2
    (tmp_path / "a.png").write_bytes(b"torn")
    (tmp_path / "b.png").unlink()
    assert illustrate(spec, tmp_path / "none").pictures == 0


def test_the_page_has_what_was_judged(spec, tmp_path):
    detected(spec, ("a", "cat", 0.9, LEFT), ("b", "dog", 0.7, RIGHT))
    stats = judge(spec, tmp_path / "out")
    illustrate(spec, tmp_path / "out")
    told = results.read(tmp_path / "out")
    assert told.mean_ap == stats.mean_ap
    assert {each.name: number(stats.ap[each.name]) for each in told.classes} == (
        pytest.approx({each.name: each.ap for each in told.classes}, nan_ok=True)
    )
    cat, dog, bird = told.classes
    # The cat at the left is the only one that is covered in full; 6/10 of another is, in one image.
    assert (cat.objects, cat.found, cat.kinds["true"], cat.uncovered) == (4, 1, 1, 2)
    assert (dog.found, dog.kinds["other class"], dog.uncovered) == (0, 1, 2)
    assert (bird.objects, bird.uncovered) == (0, None)
    assert [strip.title for strip in told.galleries["cat"]] == ["Best hits", "Missed objects"]
    assert told.recall.lines[0].points[0] == (0.5, pytest.approx(2 / 6))
