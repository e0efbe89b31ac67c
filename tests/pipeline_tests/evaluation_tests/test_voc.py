"""Average precision per class, and parity with the reference evaluator on real annotations."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from pipeline.datasets import VOC_CLASSES, read_voc
from pipeline.errors import InputError
from pipeline.evaluation import evaluate_detections, read_devkit

BOX, ELSEWHERE = (0, 0, 10, 10), (50, 50, 60, 60)


def detection(score, box=BOX, image="a", kind="cat"):
    return {"image_id": image, "class": kind, "score": score, "box": box}


def an_object(box=BOX, image="a", kind="cat", **more):
    return {"image_id": image, "class": kind, "box": box} | more


def test_marks_of_the_spec():
    truth = [an_object(image=name) for name in "abcd"]
    boxes = zip("abbccc", [BOX, ELSEWHERE, BOX, ELSEWHERE, ELSEWHERE, BOX], strict=True)
    ranked = [detection(-k, box, image) for k, (image, box) in enumerate(boxes)]
    result = evaluate_detections(ranked, truth)
    assert result.curves["cat"].true_positive.tolist() == [True, False, True, False, False, True]
    assert result.curves["cat"].scores.tolist() == [0, -1, -2, -3, -4, -5]
    np.testing.assert_allclose(result.curves["cat"].recall, [0.25, 0.25, 0.5, 0.5, 0.5, 0.75])
    np.testing.assert_allclose(
        result.curves["cat"].precision, [1, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 1 / 2]
    )
    assert result.ap["cat"] == pytest.approx(6 / 11)
    assert evaluate_detections(ranked, truth, method="area").mean_ap == pytest.approx(13 / 24)


def test_difficult_objects_count_neither_way():
    truth = [an_object(), an_object(ELSEWHERE, difficult=True)]
    result = evaluate_detections([detection(0.9, ELSEWHERE), detection(0.8)], truth)
    assert result.ap == {"cat": 1.0}
    assert result.curves["cat"].positives == 1
    assert result.curves["cat"].scores.tolist() == [0.8]
    assert result.matches.outcomes.tolist() == ["difficult", "true"]


def test_duplicates_cost_precision():
    result = evaluate_detections(
        [detection(0.9), detection(0.8), detection(0.7, image="b")],
        [an_object(), an_object(image="b")],
        method="area",
    )
    assert result.ap["cat"] == pytest.approx((1 + 2 / 3) / 2)


def test_classes_that_lack_something():
    truth = [an_object(), an_object(kind="dog"), an_object(kind="cow", difficult=True)]
    found = [detection(0.9), detection(0.5, kind="emu"), detection(0.5, kind="cow")]
    result = evaluate_detections(found, truth)
    assert list(result.ap) == ["cat", "cow", "dog", "emu"]
    assert result.ap["cat"] == 1.0
    assert result.ap["dog"] == 0.0  # has an object, was never detected
    assert math.isnan(result.ap["emu"])  # was detected, has no object
    assert math.isnan(result.ap["cow"])  # has none but a difficult one
    assert result.without_positives == ("cow", "emu")
    assert result.mean_ap == 0.5
    asked = evaluate_detections(found, truth, classes=["dog", "yak"])
    assert list(asked.ap) == ["dog", "yak"]
    assert asked.mean_ap == 0.0


def test_nothing_at_all():
    assert evaluate_detections([], [an_object()]).mean_ap == 0.0
    empty = evaluate_detections([], [])
    assert empty.ap == {}
    assert math.isnan(empty.mean_ap)
    only_detections = evaluate_detections([detection(0.9)], [], image_ids=["a"])
    assert math.isnan(only_detections.mean_ap)


def test_numbered_classes_sort_by_number():
    truth = [an_object(kind=k, image=7) for k in (10, 9)]
    assert list(evaluate_detections([], truth).ap) == [9, 10]


def test_unknown_method():
    with pytest.raises(InputError, match=r"'voc12'.*'area'"):
        evaluate_detections([], [], method="voc12")


def reference(shared_data):
    folder = shared_data / "evaluator" / "voc2007_test_comp4"
    voc = shared_data / "detection" / "voc2007_subset" / "VOC2007"
    records = read_voc(voc, "test", VOC_CLASSES).records
    truth = [
        {"image_id": r.image_id, "class": o.class_name, "box": o.box, "difficult": o.difficult}
        for r in records
        for o in r.objects
    ]
    expected = json.loads((folder / "expected.json").read_text())["results"]
    return read_devkit(folder), truth, [r.image_id for r in records], expected


def test_parity_with_the_reference(shared_data):
    detections, truth, image_ids, expected = reference(shared_data)
    # The reference's thresholds are k times a binary 0.1: 0.30000000000000004 and so on, which
    # recalls of exactly 3/10, 3/5 and 7/10 miss. SPEC §11 asks that these reach; all else agrees.
    trapped = np.arange(0.0, 1.1, 0.1)
    assert {level["iou"] for level in expected} == {0.3, 0.5, 0.7}
    for level in expected:
        area = evaluate_detections(detections, truth, level["iou"], "area", image_ids=image_ids)
        eleven = evaluate_detections(detections, truth, level["iou"], image_ids=image_ids)
        assert area.mean_ap == pytest.approx(level["mAP_area"], abs=1e-9)
        as_reference = []
        for name, wanted in level["per_class"].items():
            assert area.ap[name] == pytest.approx(wanted["ap_area"], abs=1e-9)
            curve = eleven.curves[name]
            assert curve.positives == wanted["npos"]
            best = [curve.precision[curve.recall >= t].max(initial=0) for t in trapped]
            assert np.mean(best) == pytest.approx(wanted["ap07"], abs=1e-9)
            as_reference.append(np.mean(best))
            exact = np.isin(curve.recall, [3 / 10, 6 / 10, 7 / 10]).any()
            if not exact:
                assert eleven.ap[name] == pytest.approx(wanted["ap07"], abs=1e-9)
        assert np.mean(as_reference) == pytest.approx(level["mAP07"], abs=1e-9)


def test_row_order_of_a_large_table_does_not_matter(shared_data):
    detections, truth, image_ids, _ = reference(shared_data)
    order = np.random.default_rng(0).permutation(len(detections))
    mixed = detections.take(pa.array(order))
    first = evaluate_detections(detections, truth, image_ids=image_ids)
    second = evaluate_detections(mixed, truth, image_ids=image_ids)
    assert first.ap == second.ap
    assert (first.matches.codes[order] == second.matches.codes).all()
