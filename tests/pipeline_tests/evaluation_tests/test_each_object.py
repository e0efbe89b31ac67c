"""What each object adds to its class's AP: the sum of the parts is the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import evaluate_detections, reached


def rows(*held, **more):
    names = ("image_id", "class", "box", "score")
    return [dict(zip(names, each, strict=False)) | more for each in held]


def test_an_object_has_the_best_precision_from_its_rank_down():
    truth = rows(*(("a", "cat", (k, 0, k + 5, 9)) for k in (0, 10, 20, 30)))
    found = rows(
        ("a", "cat", (20, 0, 25, 9), 0.9),  # right: 1 of 1
        ("a", "cat", (90, 0, 95, 9), 0.8),
        ("a", "cat", (0, 0, 5, 9), 0.7),  # 2 of 3
        ("a", "cat", (10, 0, 15, 9), 0.6),  # 3 of 4, which is more
    )
    evaluation = evaluate_detections(found, truth, method="area")
    told = reached(found, truth, evaluation.matches)
    assert told.precision.tolist() == [0.75, 0.75, 1.0, 0.0]
    assert told.detections.tolist() == [2, 3, 0, -1]


BOXES = st.integers(0, 4).map(lambda k: (10 * k, 0, 10 * k + 8, 8))
SEEN = st.tuples(st.sampled_from("ab"), st.sampled_from(["cat", "dog"]), BOXES)
FOUND = st.tuples(SEEN, st.integers(0, 3)).map(lambda each: (*each[0], each[1] / 4))
OBJECTS = st.lists(st.tuples(SEEN, st.booleans()), max_size=12)


@given(OBJECTS, st.lists(FOUND, max_size=20))
def test_the_mean_of_a_class_is_its_ap(objects, found):
    truth = [row | {"difficult": hard} for each, hard in objects for row in rows(each)]
    detections = rows(*found)
    evaluation = evaluate_detections(
        detections, truth, method="area", classes=["cat", "dog"], image_ids=["a", "b"]
    )
    told = reached(detections, truth, evaluation.matches)
    for name, ap in evaluation.ap.items():
        mine = np.array([row["class"] == name and not row["difficult"] for row in truth], bool)
        own = told.precision[mine]
        assert ap == pytest.approx(own.mean(), abs=1e-12) if len(own) else np.isnan(ap)
    hard = np.array([row["difficult"] for row in truth], bool)
    assert np.isnan(told.precision[hard]).all()
    for value, by in zip(told.precision, told.detections, strict=True):
        assert (by < 0) == (np.isnan(value) or value == 0)
