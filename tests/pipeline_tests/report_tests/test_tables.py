"""Average precisions as text."""

import pytest

from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections
from pipeline.report import compare_runs, format_ap_table

BOX, ELSEWHERE = (0, 0, 10, 10), (50, 50, 60, 60)
TRUTH = [
    {"image_id": "a", "class": "cat", "box": BOX},
    {"image_id": "a", "class": "cat", "box": ELSEWHERE},
    {"image_id": "a", "class": "dog", "box": BOX},
]
FOUND = [
    {"image_id": "a", "class": "cat", "score": 0.9, "box": BOX},
    {"image_id": "a", "class": "cat", "score": 0.8, "box": (70, 70, 80, 80)},
    {"image_id": "a", "class": "a|b", "score": 0.8, "box": BOX},
]


def test_table_of_one_evaluation():
    table = format_ap_table(evaluate_detections(FOUND, TRUTH, method="area"), {"cat": 0.905})
    # cat: one of two found, at precision 1: AP 1/2. dog: none found. Mean of 50 and 0.
    assert table == (
        "| class    |       AP | objects | found | false | recall | windows |\n"
        "| -------- | -------: | ------: | ----: | ----: | -----: | ------: |\n"
        "| a\\|b     |        – |       0 |     0 |     1 |      – |       – |\n"
        "| cat      |     50.0 |       2 |     1 |     1 |   50.0 |    90.5 |\n"
        "| dog      |      0.0 |       1 |     0 |     0 |    0.0 |       – |\n"
        "| **mean** | **25.0** |         |       |       |        |         |\n"
        "\n"
        "AP in percent, area, IoU ≥ 0.5. Without objects to find, so not in the mean: a|b.\n"
    )


def test_recall_of_the_windows_for_all_classes():
    table = format_ap_table(evaluate_detections(FOUND, TRUTH), window_recall=0.905)
    assert table.endswith("The candidate windows cover 90.5 % of the objects.\n")
    assert "windows |" not in table


def test_no_classes():
    assert "| **mean** | **–** |" in format_ap_table(evaluate_detections([], []))


def test_runs_side_by_side():
    first = evaluate_detections(FOUND, TRUTH, method="area", classes=["cat", "dog"])
    second = evaluate_detections([], TRUTH, method="area", classes=["dog"])
    assert compare_runs({"one": first, "two": second}) == (
        "| class    |      one |     two |\n"
        "| -------- | -------: | ------: |\n"
        "| cat      | **50.0** |       – |\n"
        "| dog      |  **0.0** | **0.0** |\n"
        "| **mean** | **25.0** |     0.0 |\n"
        "\n"
        "AP in percent, area, IoU ≥ 0.5.\n"
    )


def test_runs_evaluated_differently_do_not_compare():
    first, second = evaluate_detections([], TRUTH), evaluate_detections([], TRUTH, iou=0.7)
    with pytest.raises(InputError, match=r"one: voc07 at IoU 0\.5, two: voc07 at IoU 0\.7"):
        compare_runs({"one": first, "two": second})
    with pytest.raises(InputError, match="no runs"):
        compare_runs({})
