"""COCO's figures, from the maintained evaluator."""

import math

import pytest

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
