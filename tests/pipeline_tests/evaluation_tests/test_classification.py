"""What scores of images are worth."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections
from pipeline.evaluation.classification import judge_images
from pipeline.store.schema import BOX_COLUMNS

CLASSES = ("cat", "dog", "cow")


def labels(*shown):
    """Labels of images of one class each."""
    table = np.full((len(shown), len(CLASSES)), -1, np.int8)
    table[np.arange(len(shown)), shown] = 1
    return table


def test_accuracies_by_hand():
    scores = np.array([[3, 1, 2], [1, 3, 2], [1, 2, 3], [2, 1, 3], [5, 5, 1]], np.float32)
    judged = judge_images(scores, labels(0, 1, 1, 0, 1), CLASSES)
    assert judged.accuracy == 2 / 5
    assert judged.top5 == 1
    known = judged.class_accuracy
    assert known is not None
    assert (known["cat"], known["dog"]) == (1 / 2, 1 / 3)
    assert np.isnan(known["cow"])
    assert judged.mean_accuracy == pytest.approx((1 / 2 + 1 / 3) / 2)
    # Equal scores: the earlier class.
    assert judged.confusion is not None
    assert judged.confusion.tolist() == [[1, 0, 1], [1, 1, 1], [0, 0, 0]]


def test_average_precision_is_that_of_spec_11():
    # Marks T F T F F T with 4 positives of which one is never ranked: 0.545455 and 0.541667. Here
    # all are ranked, the fourth last.
    marks = np.array([1, -1, 1, -1, -1, 1, 1], np.int8)
    table = np.stack([marks, -marks, np.full(7, -1)], axis=1).astype(np.int8)
    falling = np.linspace(1, 0, 7, dtype=np.float32)
    judged = judge_images(np.stack([falling] * 3, axis=1), table, CLASSES, "area")
    assert judged.ap["cat"] == pytest.approx((1 + 2 / 3 + 4 / 7 + 4 / 7) / 4)
    assert np.isnan(judged.ap["cow"])
    assert judged.mean_ap == pytest.approx((judged.ap["cat"] + judged.ap["dog"]) / 2)


def test_a_difficult_image_counts_neither_for_nor_against():
    scores = np.array([[3], [2], [1]], np.float32)
    hard = np.array([[0], [1], [-1]], np.int8)
    assert judge_images(scores, hard, ("cat",)).ap == {"cat": 1.0}
    assert judge_images(scores, np.abs(hard), ("cat",)).ap["cat"] == 1.0
    assert judge_images(scores, np.where(hard, hard, -1), ("cat",)).ap["cat"] == pytest.approx(0.5)


@given(st.data())
def test_it_is_detection_of_objects_that_fill_their_images(data):
    images, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    whole = st.lists(st.integers(-1, 1), min_size=classes, max_size=classes)
    table = np.array(data.draw(st.lists(whole, min_size=images, max_size=images)), np.int8)
    numbers = st.lists(st.integers(0, 4), min_size=classes, max_size=classes)
    scores = np.array(data.draw(st.lists(numbers, min_size=images, max_size=images)), np.float32)
    box = dict.fromkeys(BOX_COLUMNS[:2], 0.0) | dict.fromkeys(BOX_COLUMNS[2:], 9.0)
    each = [(n, k) for n in range(images) for k in range(classes)]
    detections = [
        {"image_id": f"{n:03d}", "class": CLASSES[k], "score": float(scores[n, k]), **box}
        for n, k in each
    ]
    objects = [
        {"image_id": f"{n:03d}", "class": CLASSES[k], "difficult": bool(table[n, k] == 0), **box}
        for n, k in each
        if table[n, k] >= 0
    ]
    if not objects:
        return
    ids = [f"{n:03d}" for n in range(images)]
    names = CLASSES[:classes]
    for method in ("voc07", "area"):
        given_ = (pa.Table.from_pylist(detections), pa.Table.from_pylist(objects))
        known = evaluate_detections(*given_, method=method, classes=names, image_ids=ids)
        judged = judge_images(scores, table, names, method)
        assert list(judged.ap.values()) == pytest.approx(list(known.ap.values()), nan_ok=True)


def test_several_classes_an_image_have_no_accuracy():
    scores = np.zeros((2, 3), np.float32)
    both = np.array([[1, 1, -1], [-1, -1, 1]], np.int8)
    judged = judge_images(scores, both, CLASSES)
    assert (judged.accuracy, judged.mean_accuracy, judged.confusion) == (None, None, None)


def test_shapes_and_numbers_that_cannot_be():
    with pytest.raises(InputError, match=r"scores are \[2, 3\], labels \[1, 3\], for 3 classes"):
        judge_images(np.zeros((2, 3)), labels(0), CLASSES)
    with pytest.raises(InputError, match="not a number"):
        judge_images(np.full((1, 3), np.nan), labels(0), CLASSES)
