"""COCO's figures, from the maintained evaluator."""

import math

import numpy as np
import pyarrow as pa
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from pipeline.errors import InputError
from pipeline.evaluation import evaluate_coco

SMALL, LARGE = (0, 0, 20, 20), (100, 100, 300, 300)


def row(box, image="a", kind="cat", **more):
    return {"image_id": image, "class": kind, "box": box} | more


def test_perfect_detections(capfd):
    truth = [row(SMALL), row(LARGE), row(LARGE, "b", "dog")]
    result = evaluate_coco([one | {"score": 0.5} for one in truth], truth)
    assert result["AP"] == result["AP50"] == result["AP_small"] == result["AP_large"] == 1.0
    assert math.isnan(result["AP_medium"])  # no object of that size
    assert capfd.readouterr() == ("", "")


def test_average_over_ious():
    # overlap 72/100: right at IoU .50, .55, .60, .65 and .70, wrong at the other five
    result = evaluate_coco([row((7, 11, 27, 25.4), score=0.5)], [row((7, 11, 27, 31))])
    assert result["AP"] == pytest.approx(5 / 10)
    assert result["AP50"] == 1.0
    assert result["AP75"] == 0.0


def test_difficult_objects_are_ignored():
    truth = [row(SMALL), row(LARGE, difficult=True)]
    found = [row(LARGE, score=0.9), row(SMALL, score=0.5)]
    assert evaluate_coco(found, truth)["AP"] == 1.0  # neither a false one
    assert evaluate_coco(found[1:], truth)["AP"] == 1.0  # nor one to be found
    assert evaluate_coco(found, truth[:1])["AP"] == pytest.approx(0.5)


def test_zero_cases():
    assert evaluate_coco([], [row(SMALL)])["AP"] == 0.0
    assert all(math.isnan(value) for value in evaluate_coco([], []).values())
    found = [row(SMALL, score=0.9), row(SMALL, "b", "emu", score=0.9)]
    assert evaluate_coco(found, [row(SMALL)], image_ids=["a", "b"])["AP"] == 1.0
    with pytest.raises(InputError, match="unknown"):
        evaluate_coco(found, [row(SMALL)])


def random_rows(count, rng):
    """Boxes whose sides are whole pixels, in few images and classes, so that overlaps are many."""
    low, size = rng.integers(0, 60, (count, 2)), rng.integers(10, 130, (count, 2))
    boxes = np.hstack([low, low + size]).astype(float).tolist()
    images, kinds = rng.integers(0, 9, count), rng.integers(0, 4, count)
    return [
        row(box, int(image), int(kind))
        for box, image, kind in zip(boxes, images, kinds, strict=True)
    ]


def test_classes_judged_apart_are_as_judged_together():
    rng = np.random.default_rng(7)
    truth = [one | {"difficult": rng.random() < 0.2} for one in random_rows(90, rng)]
    rows = random_rows(700, rng) + [one for one in truth if rng.random() < 0.5]
    found = [one | {"score": rng.integers(0, 20) / 20} for one in rows]

    def record(one, number):
        x_min, y_min, x_max, y_max = one["box"]
        box = [x_min, y_min, x_max - x_min, y_max - y_min]
        shared = {"id": number, "image_id": one["image_id"], "category_id": one["class"]}
        area, crowd = box[2] * box[3], int(one.get("difficult", False))
        return shared | {"bbox": box, "area": area, "iscrowd": crowd, "score": one.get("score")}

    def together(rows):
        ids = [{"id": k} for k in range(9)]
        annotations = [record(one, number) for number, one in enumerate(rows, start=1)]
        return COCO({"images": ids, "categories": ids[:4], "annotations": annotations})

    judge = COCOeval_faster(together(truth), together(found), "bbox")
    judge.run()
    ours = evaluate_coco(found, truth, image_ids=range(9))
    assert 0 < ours["AP_small"] < 1
    assert 0 < ours["AP"] < ours["AP50"] < 1
    np.testing.assert_allclose(list(ours.values()), judge.stats[:6], rtol=0, atol=1e-12)


def test_a_class_that_no_object_has_any_more_is_left_out():
    # an encoded column goes on naming the classes of rows that were filtered out
    truth = pa.Table.from_pylist([row(SMALL), row(LARGE, kind="dog")])
    truth = truth.set_column(1, "class", truth["class"].dictionary_encode()).slice(0, 1)
    assert truth["class"].chunk(0).dictionary.to_pylist() == ["cat", "dog"]
    found = [row(SMALL, score=0.9), row(LARGE, kind="dog", score=0.9)]
    assert evaluate_coco(found, truth)["AP"] == 1.0
