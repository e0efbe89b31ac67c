"""Which detection found which object."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.evaluation import match_detections


def found(*rows, image="a", kind="cat"):
    return [{"image_id": image, "class": kind, "score": s, "box": box} for s, box in rows]


def objects(*boxes, image="a", kind="cat", difficult=()):
    return [
        {"image_id": image, "class": kind, "box": box, "difficult": k in difficult}
        for k, box in enumerate(boxes)
    ]


LEFT, RIGHT, FAR = (0, 0, 10, 10), (10, 0, 20, 10), (70, 70, 90, 90)


def test_each_outcome():
    truth = objects(LEFT, RIGHT, FAR, difficult=[2])
    detections = found((0.1, FAR), (0.9, LEFT), (0.8, (0, 0, 10, 9)), (0.7, (40, 40, 50, 50)))
    matches = match_detections(detections, truth)
    assert matches.outcomes.tolist() == ["difficult", "true", "duplicate", "false"]
    assert matches.objects.tolist() == [2, 0, 0, -1]
    np.testing.assert_allclose(matches.ious, [1, 1, 0.9, 0])
    assert matches.found.tolist() == [True, False, True]


def test_iou_that_just_suffices():
    # 10 by 10 against 10 by 7: 70/100, where 0.7 in binary lies below seven tenths
    detections = found((0.9, (0, 0, 10, 7)))
    assert match_detections(detections, objects(LEFT), 0.7).outcomes.tolist() == ["true"]
    assert match_detections(found((0.9, (0, 0, 10, 5))), objects(LEFT)).outcomes[0] == "true"
    assert match_detections(found((0.9, (0, 0, 10, 4.99))), objects(LEFT)).outcomes[0] == "false"


def test_no_fall_back_to_the_next_best_object():
    truth = objects((0, 0, 10, 10), (0, 0, 10, 9))  # both would do for the second detection
    matches = match_detections(found((0.9, LEFT), (0.8, LEFT)), truth)
    assert matches.outcomes.tolist() == ["true", "duplicate"]


def test_difficult_object_takes_part_in_the_argmax():
    truth = objects((0, 0, 10, 9), LEFT, difficult=[1])  # 0.9 with the easy one, 1 with the other
    matches = match_detections(found((0.9, LEFT), (0.8, LEFT)), truth)
    assert matches.outcomes.tolist() == ["difficult", "difficult"]
    assert matches.found.tolist() == [False, True]


def test_equal_overlaps_go_to_the_first_object():
    # [5, 15) shares half with each: 50 / (100 + 100 - 50) = 1/3
    matches = match_detections(found((0.9, (5, 0, 15, 10))), objects(LEFT, RIGHT), 1 / 3)
    assert matches.objects.tolist() == [0]
    swapped = match_detections(found((0.9, (5, 0, 15, 10))), objects(RIGHT, LEFT), 1 / 3)
    assert swapped.objects.tolist() == [0]


def test_the_best_scored_is_true_wherever_it_lies():
    detections = found((0.5, LEFT), (0.7, (0, 0, 10, 8)), (0.6, LEFT), (0.9, (0, 0, 10, 7)))
    matches = match_detections(detections, objects(LEFT))
    assert matches.outcomes.tolist() == ["duplicate", "duplicate", "duplicate", "true"]


def test_overlap_is_computed_in_float64():
    # one row of 16777217 px, which float32 would round to 16777216, against half of it and less
    boxes = {"x_min": [0.0], "y_min": [0.0], "x_max": [2.0**23], "y_max": [1.0]}
    columns = {"image_id": ["a"], "class": ["cat"], "score": np.ones(1, np.float32)}
    columns |= {name: np.array(value, np.float32) for name, value in boxes.items()}
    truth = objects((0, 0, 2**24 + 1, 1))
    assert match_detections(columns, truth).outcomes.tolist() == ["false"]
    assert match_detections(columns, objects((0, 0, 2**24, 1))).outcomes.tolist() == ["true"]
    # 4097² has 25 bits, and is rounded in float32; the overlap is exactly a half
    side = np.array([[0, 0, 4097, 4097]], np.float32)
    columns |= dict(zip(boxes, side.T, strict=True))
    assert match_detections(columns, objects((0, 0, 4097, 8194))).ious.tolist() == [0.5]


def test_equal_scores_keep_table_order():
    detections = found((0.5, (0, 0, 10, 9)), (0.5, LEFT), (0.7, FAR))
    matches = match_detections(detections, objects(LEFT))
    assert matches.outcomes.tolist() == ["true", "duplicate", "false"]


def test_other_classes_and_images_do_not_count():
    truth = objects(LEFT) + objects(LEFT, image="b", kind="dog")
    detections = found((0.9, LEFT), image="b") + found((0.9, LEFT), kind="dog")
    assert match_detections(detections, truth).outcomes.tolist() == ["false", "false"]


def test_images_without_objects_must_be_listed():
    detections = found((0.9, LEFT), image="empty")
    with pytest.raises(InputError, match=r"'empty'.*image_ids"):
        match_detections(detections, objects(LEFT))
    matches = match_detections(detections, objects(LEFT), image_ids=["a", "empty"])
    assert matches.outcomes.tolist() == ["false"]
    with pytest.raises(InputError, match="ground truth: 1 of 1 images are unknown, such as 'a'"):
        match_detections([], objects(LEFT), image_ids=["empty"])


@pytest.mark.parametrize("iou", [0.0, -0.5, 1.01, float("nan")])
def test_impossible_threshold(iou):
    with pytest.raises(InputError, match="outside"):
        match_detections([], objects(LEFT), iou)


def test_no_rows_at_all():
    matches = match_detections([], [])
    assert matches.outcomes.tolist() == []
    assert matches.found.tolist() == []


def spans(count: int):
    """Boxes one pixel high on a short line, so that overlaps and ties are many."""
    span = st.tuples(st.integers(0, 6), st.integers(1, 4))
    return st.lists(span.map(lambda s: (s[0], 0, s[0] + s[1], 1)), max_size=count)


@given(spans(5), spans(7), st.data())
def test_equals_the_rule_told_plainly(truth, boxes, data):
    difficult = data.draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))
    scores = [data.draw(st.integers(0, 3)) for _ in boxes]
    outcomes, taken = [""] * len(boxes), set()
    for row in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        cells = set(range(boxes[row][0], boxes[row][2]))
        others = [set(range(box[0], box[2])) for box in truth]
        ious = [len(cells & other) / len(cells | other) for other in others]
        best = max(range(len(truth)), key=lambda k: ious[k], default=None)
        if best is None or ious[best] < 0.5:
            outcomes[row] = "false"
        elif difficult[best]:
            outcomes[row] = "difficult"
        else:
            outcomes[row] = "duplicate" if best in taken else "true"
            taken.add(best)
    rows = objects(*truth, difficult=[k for k, hard in enumerate(difficult) if hard])
    detections = found(*zip(scores, boxes, strict=True))
    assert match_detections(detections, rows, image_ids=["a"]).outcomes.tolist() == outcomes


def test_threshold_of_one_asks_for_the_very_box():
    detections = found((0.9, (0, 0, 10, 9.5)), (0.8, LEFT))
    assert match_detections(detections, objects(LEFT), 1).outcomes.tolist() == ["false", "true"]
