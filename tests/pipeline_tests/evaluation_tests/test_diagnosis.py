"""What is wrong with detections, by hand."""

import math

import pytest

from pipeline.errors import InputError
from pipeline.evaluation import diagnose
from pipeline.evaluation.diagnosis import Missed

CAT, DOG, CAR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 0.0, 50.0, 10.0)
ALIKE = [("cat", "dog")]


def truth(*rows):
    """(image, class, box), and difficult where a fourth is given."""
    return [
        {"image_id": image, "class": name, "box": box, "difficult": bool(rest)}
        for image, name, box, *rest in rows
    ]


def found(*rows):
    """Cats, best first: (image, box)."""
    return [
        {"image_id": image, "class": "cat", "score": 1.0 - number / 100, "box": box}
        for number, (image, box) in enumerate(rows)
    ]


SCENE = truth(("a", "cat", CAT), ("a", "dog", DOG), ("a", "car", CAR), ("b", "cat", CAT))


def best_of(*boxes, objects=SCENE, **options):
    told = diagnose(found(*(("a", box) for box in boxes)), objects, **options)["cat"]
    return {kind: count for kind, count in told.best.items() if count}


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        (CAT, "true"),
        ((0.0, 0.0, 10.0, 4.0), "localisation"),  # 40 of 100 px
        ((0.0, 0.0, 10.0, 1.0), "localisation"),  # exactly 0.1
        ((0.0, 0.0, 10.0, 0.9), "background"),
        (DOG, "similar class"),
        (CAR, "other class"),
        ((40.0, 0.0, 50.0, 1.0), "other class"),
        ((70.0, 0.0, 80.0, 10.0), "background"),
        # Over both the dog and the car: 30 of 160 + 100 − 30 px each; then the cat and the dog.
        ((27.0, 0.0, 43.0, 10.0), "similar class"),
        ((7.0, 0.0, 23.0, 10.0), "localisation"),
    ],
)
def test_a_detection_is_of_one_kind(box, kind):
    assert best_of(box, similar=ALIKE) == {kind: 1}


def test_without_groups_no_class_is_similar():
    assert best_of(DOG) == {"other class": 1}


def test_a_second_detection_of_an_object_is_a_localisation_error():
    assert best_of(CAT, CAT) == {"true": 1, "localisation": 1}


def test_as_many_are_looked_at_as_there_are_objects():
    # Two cats, of which one is in the other image.
    assert best_of(CAR, DOG, CAT, similar=ALIKE) == {"other class": 1, "similar class": 1}


def test_difficult_objects_are_no_fault_and_no_object():
    objects = truth(("a", "cat", CAT), ("a", "cat", DOG, "difficult"))
    assert best_of(DOG, CAR, objects=objects) == {"background": 1}


def test_ap_without_a_kind_of_error():
    # Ranked: on a car, true in a, true in b. Two objects: precision 1/2 and 2/3 at recall 1/2, 1.
    told = diagnose(found(("a", CAR), ("a", CAT), ("b", CAT)), SCENE, method="area")["cat"]
    assert told.ap == pytest.approx(2 / 3)  # the envelope: 2/3 everywhere
    assert told.ap_without == {
        "localisation": pytest.approx(2 / 3),
        "similar class": pytest.approx(2 / 3),
        "other class": 1.0,
        "background": pytest.approx(2 / 3),
    }


def test_missed_objects_and_ap_by_size():
    # Ten cats, of areas 100, 200, … 1,000 px: 3 are small, 4 medium, 3 large.
    objects = truth(*((f"{k}", "cat", (0.0, 0.0, 10.0, 10.0 * k)) for k in range(1, 11)))
    hits = found(*((f"{k}", (0.0, 0.0, 10.0, 10.0 * k)) for k in (1, 4, 5, 6, 7)))
    covered = [0.5 if k in (1, 2, 4, 5, 6, 7, 8) else 0.49 for k in range(1, 11)]
    told = diagnose(hits, objects, method="area", window_ious=covered)["cat"]
    assert told.missed == {
        "small": Missed(3, 2, 1),
        "medium": Missed(4, 0, 0),
        "large": Missed(3, 3, 2),
    }
    assert told.window_recall == pytest.approx(0.7)
    assert told.ap_by_size == {"small": pytest.approx(1 / 3), "medium": 1.0, "large": 0.0}


def test_sizes_are_among_the_objects_to_be_found():
    # Of areas 10, 20, … 100 px the three smallest are difficult: of the others 2, 3 and 2.
    objects = truth(
        *((f"{k}", "cat", (0.0, 0.0, 10.0, 1.0 * k), *["hard"] * (k < 4)) for k in range(1, 11))
    )
    told = diagnose([], objects)["cat"]
    assert [told.missed[size].objects for size in ("small", "medium", "large")] == [2, 3, 2]


def test_windows_are_not_needed_and_must_fit():
    told = diagnose(found(("a", CAT)), SCENE)["cat"]
    assert told.window_recall is None
    assert told.missed["small"].uncovered is None
    with pytest.raises(InputError, match="3 IoUs of windows, and 4 objects"):
        diagnose(found(("a", CAT)), SCENE, window_ious=[0.5] * 3)


def test_nothing_found_and_nothing_to_find():
    told = diagnose([], SCENE, classes=["cat", "bird"], image_ids=["a", "b", "empty"])
    assert list(told) == ["cat"]  # of birds nothing is known at all
    assert (told["cat"].ap, told["cat"].best["true"]) == (0.0, 0)
    only = diagnose(found(("a", CAT)), [], image_ids=["a"])["cat"]
    assert math.isnan(only.ap)
    assert only.best == dict.fromkeys(only.best, 0)
