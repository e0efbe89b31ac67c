"""Detections drawn on images."""

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.report import draw_detections, write_pictures
from pipeline.report.gallery import scenes
from pipeline.report.marks import MARKS, of_class

GREY = np.full((450, 600, 3), 127, dtype=np.uint8)


def row(box, kind="cat", image="a", **more):
    return {"image_id": image, "class": kind, "box": box} | more


def shows(picture, colour) -> bool:
    return bool((picture == colour).all(axis=2).any())


@pytest.mark.parametrize("outcome", ["true", "false", "duplicate", "difficult"])
def test_each_outcome_has_its_colours(outcome):
    picture = draw_detections(GREY, [row((100, 100, 300, 300), score=0.5)], [outcome])
    assert picture.shape == GREY.shape
    for name, mark in MARKS.items():
        assert shows(picture, mark.line) == (name in (outcome, "object"))  # white: the text
        assert shows(picture, mark.ground) == (name == outcome)
    assert (GREY == 127).all()  # the caller's image is not drawn upon


def test_box_lies_where_it_should():
    picture = draw_detections(GREY, [row((100, 120, 300, 330), score=0.5)], ["true"])
    rows, cols = np.nonzero((picture == MARKS["true"].line).all(axis=2))
    assert (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1) == (100, 120, 300, 330)


def test_best_detection_chooses_its_labels_place():
    boxes = [row((100, 100, 300, 300), score=0.1), row((100, 100, 300, 300), score=0.9)]
    picture = draw_detections(GREY, boxes, ["duplicate", "true"])
    assert (picture[97, 101] == MARKS["true"].ground).all()  # just above the box


def test_small_images_are_enlarged():
    small = np.zeros((150, 200, 3), dtype=np.uint8)
    picture = draw_detections(small, [row((50, 60, 100, 110), score=0.5)], ["true"])
    assert picture.shape == (450, 600, 3)  # three times: the shorter side reaches 420
    rows, cols = np.nonzero((picture == MARKS["true"].line).all(axis=2))
    assert (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1) == (150, 180, 300, 330)


def test_missed_objects_and_true_boxes():
    objects = [row((10, 10, 100, 100)), row((200, 200, 300, 300))]
    picture = draw_detections(GREY, [], [], objects, [False, True])
    assert shows(picture[:150, :150], MARKS["object"].line)
    assert not shows(picture[:150, :150], MARKS["missed"].line)
    assert shows(picture[150:], MARKS["missed"].line)


def test_colours_of_classes_where_nobody_judges():
    boxes = [row((50, 100, 200, 300), kind, score=0.5) for kind in ("cat", "dog")]
    boxes[1]["box"] = (300, 100, 500, 300)
    classes = ["bird", "dog", "cat"]
    picture = draw_detections(GREY, boxes, ["found", "found"], classes=classes)
    cat, dog = of_class(2), of_class(1)
    assert shows(picture[:, :250], cat.line)
    assert shows(picture[:, :250], cat.ground)
    assert shows(picture[:, 250:], dog.line)
    assert not shows(picture[:, 250:], cat.line)
    assert not shows(picture, MARKS["found"].line)
    # Alone it has the same colour; what is judged, or of no such class, keeps its own.
    alone = draw_detections(GREY, boxes[1:], ["found"], classes=classes)
    assert shows(alone, dog.line)
    assert shows(draw_detections(GREY, boxes[1:], ["found"], classes=["cat"]), MARKS["found"].line)
    judged = draw_detections(GREY, boxes, ["true", "false"], classes=classes)
    assert shows(judged, MARKS["true"].line)
    assert shows(judged, MARKS["false"].line)
    assert not shows(judged, dog.line)


def test_labels_change_no_pixel_outside_and_never_fail():
    corners = [(0, 0, 5, 5), (595, 445, 600, 450), (0, 445, 5, 450), (-50, -50, 700, 500)]
    boxes = [row(box, "a very long name of a class " * 5, score=1e9) for box in corners]
    assert draw_detections(GREY, boxes, ["true"] * 4).shape == GREY.shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (7, 13)])
def test_tiny_images(shape):
    image = np.zeros((*shape, 3), dtype=np.uint8)
    for factor in (None, 1.0):
        picture = draw_detections(image, [row((0, 0, 1, 1), score=0.5)], ["false"], factor=factor)
        assert max(picture.shape) <= 2000


def test_lists_of_different_lengths():
    with pytest.raises(InputError, match="2 outcomes for 1 detections"):
        draw_detections(GREY, [row((0, 0, 9, 9), score=0.5)], ["true", "false"])
    with pytest.raises(InputError, match="1 missed marks for 0 objects"):
        draw_detections(GREY, [], [], [], [True])


TRUTH = [row((0, 0, 50, 50)), row((100, 100, 200, 200), difficult=True), row((9, 9, 99, 99), "dog")]
FOUND = [
    row((0, 0, 50, 50), score=0.2),
    row((0, 0, 50, 45), score=0.9),
    row((300, 300, 350, 350), score=0.5),
]


def test_what_is_drawn_is_judged_among_all():
    (scene,) = scenes(["a"], FOUND, TRUTH, max_detections=2)
    assert scene.outcomes == ["true", "false"]
    assert [one["score"] for one in scene.detections] == [0.9, 0.5]
    assert scene.missed == [False, False, True]  # the difficult one is never missed
    (scene,) = scenes(["a"], FOUND, TRUTH, min_score=1.0)
    assert scene.outcomes == []
    assert scene.missed == [True, False, True]  # nothing drawn finds the cat
    (scene,) = scenes(["a"], FOUND, TRUTH)
    assert scene.outcomes == ["true", "false", "duplicate"]


def test_folder_of_pictures(tmp_path):
    folder = tmp_path / "deep" / "pictures"
    ids = ["a", "nothing/here", "../escape", "sheet"]
    paths = write_pictures(folder, ids, lambda _: GREY, FOUND, TRUTH, columns=2)
    names = ["a.png", "nothing%2Fhere.png", "..%2Fescape.png", "sheet_.png", "sheet.png"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    with Image.open(paths[-1]) as sheet:
        assert sheet.width == 2 * 420 + 3 * 14
        assert sheet.height > 2 * (340 + 26)


def test_no_pictures(tmp_path):
    assert write_pictures(tmp_path, [], lambda _: GREY, [], []) == (tmp_path / "sheet.png",)


def test_same_pictures_same_bytes(tmp_path):
    first = write_pictures(tmp_path / "1", ["a"], lambda _: GREY, FOUND, TRUTH)
    again = write_pictures(tmp_path / "2", ["a"], lambda _: GREY, FOUND, TRUTH)
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
