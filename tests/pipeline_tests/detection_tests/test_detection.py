"""From scores to detections, by hand."""

import pickle
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import boxes
from pipeline.config import Detection
from pipeline.datasets.records import Object
from pipeline.detection import (
    DETECTIONS,
    DetectSpec,
    best,
    detect,
    detect_shard,
    read_detections,
)
from pipeline.errors import InputError
from pipeline.learning import Classifiers, box_regressors
from pipeline.learning.box_regressors import BoxRegressors

APART = [[20 * k, 0, 20 * k + 10, 10] for k in range(5)]
SIZE = (100, 50)


def found(scores, windows=APART, size=SIZE, **settings):
    """(class, window) of each detection."""
    array = np.asarray(scores, float)
    window, classes, _ = detect(windows, array, size, Detection(**settings))
    return list(zip(classes.tolist(), window.tolist(), strict=True))


def test_class_by_class_best_first():
    scores = [[0.1, -9], [0.3, 0.5], [0.2, 0.6], [-9, -9], [-9, 0.4]]
    assert found(scores) == [(0, 1), (0, 2), (0, 0), (1, 2), (1, 1), (1, 4)]


def test_scores_must_exceed_the_least():
    assert found([[-1.5], [-1.4], [-1.6], [0], [np.nan]]) == [(0, 3), (0, 1)]
    assert found([[-1.5], [-1.4], [-1.6], [0], [2]], min_score=0) == [(0, 4)]


def test_a_class_keeps_its_best_windows_before_suppression():
    scores = [[5], [4], [3], [2], [1]]
    assert found(scores, per_class=2) == [(0, 0), (0, 1)]
    # the second best falls to the best; the third does not move up
    twins = [APART[0], APART[0], *APART[2:]]
    assert found(scores, twins, per_class=2) == [(0, 0)]
    assert found(scores, twins, per_class=3) == [(0, 0), (0, 2)]


@given(
    st.lists(st.sampled_from([-3.0, -1.5, 0.0, 0.5, 2.0, np.nan]), max_size=12),
    st.integers(1, 13),
)
def test_the_best_are_those_of_a_full_stable_sort(scores, limit):
    array = np.array(scores, float)
    ranked = [row for row in np.argsort(-array, kind="stable").tolist() if scores[row] > -1.5]
    assert best(array, limit, -1.5).tolist() == ranked[:limit]


def test_overlap_of_exactly_the_threshold_stays():
    spans = [[0, 0, 13, 1], [7, 0, 20, 1]]  # 6 of 20
    assert found([[2], [1]], spans) == [(0, 0), (0, 1)]
    assert found([[2], [1]], spans, nms_iou=0.29) == [(0, 0)]


def test_classes_do_not_suppress_each_other():
    assert found([[2, 1], [1, 2]], [APART[0]] * 2) == [(0, 0), (1, 1)]


def test_boxes_are_cut_to_the_image():
    windows = [[-5, 3, 120, 60], [20, 20, 30, 30]]
    _, _, clipped = detect(windows, np.array([[1.0], [2.0]]), (100, 50), Detection())
    assert clipped.tolist() == [[20, 20, 30, 30], [0, 3, 100, 50]]


def test_nothing_to_detect():
    window, classes, clipped = detect([], np.zeros((0, 3)), SIZE, Detection())
    assert (window.shape, classes.shape, clipped.shape) == ((0,), (0,), (0, 4))
    window, classes, clipped = detect(APART, np.full((5, 2), -2.0), SIZE, Detection())
    assert (window.shape, classes.shape, clipped.shape) == ((0,), (0,), (0, 4))


@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.6]))
def test_equals_the_rule_told_plainly(seed, per_class, nms_iou):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 20, (15, 2))
    windows = np.hstack([corners, corners + random.integers(3, 9, (15, 2))])
    scores = random.integers(-3, 3, (15, 2)).astype(float)
    expected = []
    for k in (0, 1):
        ranked = sorted(range(15), key=lambda row: -scores[row, k])[:per_class]
        kept = []
        for row in ranked:
            overlaps = boxes.iou(windows[[row]], windows[kept])[0]
            if scores[row, k] > -1.5 and not (overlaps > nms_iou).any():
                kept.append(row)
        expected += [(k, row) for row in kept]
    assert found(scores, windows, per_class=per_class, nms_iou=nms_iou) == expected


def test_what_is_moved_is_suppressed_again():
    apart = APART[:3]
    scores = np.array([[0.3, 1.0], [0.9, -9], [0.2, 0.5]])
    asked = []

    def move(window, classes):
        asked.append((window.tolist(), classes.tolist()))
        moved = np.array(apart, float)[window]
        moved[(window == 0) & (classes == 0)] = apart[1]  # onto a better one of its class
        moved[(window == 2) & (classes == 1)] = [0, 0, 10, 3]  # 3/10 of another: it stays
        return moved

    window, classes, where = detect(apart, scores, SIZE, Detection(), move)
    assert asked == [([1, 0, 2, 0, 2], [0, 0, 0, 1, 1])]
    assert window.tolist() == [1, 2, 0, 2]
    assert classes.tolist() == [0, 0, 1, 1]
    assert where.tolist() == [apart[1], apart[2], apart[0], [0, 0, 10, 3]]


@pytest.fixture
def spec(make_store, made, tmp_path):
    """Vectors are scores for cat and dog; every image has a cat that must not be detected."""
    cat = (Object("cat", (50.0, 50.0, 60.0, 60.0)),)
    shards = [
        {
            "a": made([[9, 9]], [], cat, (30, 30)),
            "b": made([[1, -9], [0.5, 2], [9, 9]], APART[:2], cat),
        },
        {"c": made([[0.25, -9], [9, 9]], [[90, 40, 130, 80]], cat, (110, 70)), "d": made([], [])},
    ]
    held = make_store(tmp_path / "store", shards, 2, "float16", row_group_bytes=10**6)
    known = Classifiers(("cat", "dog"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0)
    known.save(tmp_path / "classifiers")
    return DetectSpec(held, tmp_path / "classifiers", Detection())


def test_a_shard_becomes_a_table(spec, tmp_path):
    stats = [detect_shard(spec, name, tmp_path / "out") for name in ("00001", "00000")]
    assert [(each.images, each.detections) for each in stats] == [(1, 1), (2, 3)]
    table = read_detections(tmp_path / "out")
    assert table.schema == DETECTIONS
    assert table.to_pylist() == [
        row("b", "cat", 1, APART[0]),
        row("b", "cat", 0.5, APART[1]),
        row("b", "dog", 2, APART[1]),
        row("c", "cat", 0.25, [90, 40, 110, 70]),  # cut to 110 by 70
    ]


def row(image_id, name, score, box):
    corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, box), strict=True))
    return {"image_id": image_id, "class": name, "score": float(score), **corners}


def test_a_table_is_the_same_each_time(spec, tmp_path):
    for name in ("one", "other"):
        detect_shard(spec, "00000", tmp_path / name)
    one, other = (tmp_path / name / "00000.parquet" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_no_detections_at_all(spec, tmp_path):
    strict = DetectSpec(spec.store, spec.classifiers, Detection(min_score=100))
    assert detect_shard(strict, "00000", tmp_path / "out").detections == 0
    assert read_detections(tmp_path / "out").num_rows == 0
    assert read_detections(tmp_path / "nowhere").schema == DETECTIONS
    assert pq.read_schema(tmp_path / "out/00000.parquet") == DETECTIONS


@pytest.fixture
def regressed(spec, tmp_path):
    """Regressors that move each window to the right by its first number, in widths."""
    weights = np.zeros((2, 4, 2), np.float32)
    weights[:, 0, 0] = 1
    known = BoxRegressors(("cat", "dog"), weights, np.zeros((2, 4), np.float32), 1.0)
    known.save(tmp_path / "regressors")
    return replace(spec, regressors=tmp_path / "regressors")


def test_windows_are_moved_by_their_vectors(regressed, tmp_path):
    detect_shard(regressed, "00000", tmp_path / "out")
    assert read_detections(tmp_path / "out").to_pylist() == [
        row("b", "cat", 1, [10, 0, 20, 10]),
        row("b", "cat", 0.5, [25, 0, 35, 10]),
        row("b", "dog", 2, [25, 0, 35, 10]),
    ]


def test_regressors_may_read_another_layer(regressed, make_store, made, tmp_path):
    """Of the same windows, in other shards: what is scored there is not what moves here."""
    cat = (Object("cat", (50.0, 50.0, 60.0, 60.0)),)
    pool5 = [
        {"a": made([[7, 7]], [], cat, (30, 30))},
        {
            "b": made([[3, 0], [0, 0], [7, 7]], APART[:2], cat),
            "c": made([[-1, 0], [7, 7]], [[90, 40, 130, 80]], cat, (110, 70)),
            "d": made([], []),
        },
    ]
    beside = make_store(tmp_path / "pool5", pool5, 2, "float32")
    spec = replace(regressed, pool5=beside)
    for name in ("00000", "00001"):
        detect_shard(spec, name, tmp_path / "out")
    assert read_detections(tmp_path / "out").to_pylist() == [
        row("b", "cat", 1, [30, 0, 40, 10]),
        row("b", "cat", 0.5, APART[1]),
        row("b", "dog", 2, APART[1]),
        row("c", "cat", 0.25, [50, 40, 90, 70]),
    ]


def test_another_layer_of_other_windows_is_refused(regressed, make_store, made, tmp_path):
    cat = (Object("cat", (50.0, 50.0, 60.0, 60.0)),)
    absent = {"a": made([[7, 7]], [], cat)}
    fewer = {**absent, "b": made([[7, 7]], [], cat)}
    for name, images, says in (
        ("absent", absent, "has no image b"),
        ("fewer", fewer, "has 1 windows of image b, where 3 were scored"),
    ):
        wrong = make_store(tmp_path / name, [images], 2)
        with pytest.raises(InputError, match=says):
            detect_shard(replace(regressed, pool5=wrong), "00000", tmp_path / "no")
    other = make_store(tmp_path / "other", [fewer], 2)
    for held, windows in ((regressed.store, "windows_test-1"), (other, "windows_test-2")):
        held.__dict__["made_from"] = {"network": "none", "windows": windows}
    with pytest.raises(InputError, match=r"of windows windows_test-2, and .* of windows_test-1"):
        detect_shard(replace(regressed, pool5=other), "00000", tmp_path / "no")


def test_regressors_of_other_classes_are_refused(regressed, tmp_path):
    known = box_regressors.load(tmp_path / "regressors")
    replace(known, classes=("dog", "cat")).save(tmp_path / "regressors")
    with pytest.raises(InputError, match=r"moves windows of dog, cat, and .* know cat, dog"):
        detect_shard(regressed, "00000", tmp_path / "out")


def test_regressors_of_another_network_are_refused(regressed, tmp_path):
    weights, biases = np.zeros((2, 4, 2), np.float32), np.zeros((2, 4), np.float32)
    other = BoxRegressors(("cat", "dog"), weights, biases, 1.0, {"network": "other"})
    other.save(tmp_path / "regressors")
    with pytest.raises(InputError, match=r"box regressors were trained on .* network = other"):
        detect_shard(regressed, "00000", tmp_path / "out")


def test_classifiers_of_other_vectors_are_refused(spec, tmp_path):
    Classifiers(("cat",), np.zeros((1, 3), np.float32), np.zeros(1, np.float32), 1.0).save(
        tmp_path / "classifiers"
    )
    with pytest.raises(InputError, match="the vectors have 2 numbers, the classifiers read 3"):
        detect_shard(spec, "00000", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("trained_on", "says"),
    [
        ({"network": "none", "split": "train", "dataset": "other", "windows": "w"}, None),
        ({"network": "other"}, r"network = other; .*store was made with none"),
        ({}, None),
    ],
)
def test_classifiers_trained_on_another_network_are_refused(spec, tmp_path, trained_on, says):
    known = Classifiers(
        ("cat",), np.zeros((1, 2), np.float32), np.zeros(1, np.float32), 1.0, trained_on
    )
    known.save(tmp_path / "classifiers")
    if says is None:
        assert detect_shard(spec, "00000", tmp_path / "out").images == 2
        return
    with pytest.raises(InputError, match=says):
        detect_shard(spec, "00000", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shard_is_detected_without_the_others(spec, tmp_path):
    detect_shard(spec, "00001", tmp_path / "out")
    for file in ("records/00000.json", spec.store.shards[0].name("shards")):
        spec.store.root.remove(file)
    detect_shard(pickle.loads(pickle.dumps(spec)), "00001", tmp_path / "again")
    one, other = (tmp_path / name / "00001.parquet" for name in ("out", "again"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("row_group_bytes", [1, 10**6])
def test_row_groups_change_no_byte(make_store, made, tmp_path, row_group_bytes):
    random = np.random.default_rng(0)
    corners = random.integers(0, 50, (600, 2))
    windows = np.hstack([corners, corners + random.integers(9, 40, (600, 2))]).tolist()
    # A product with a single class rounds by how many rows are multiplied together.
    images = {
        name: made(random.random((count, 30)), windows[:count])
        for name, count in (("a", 17), ("b", 130), ("c", 600), ("d", 3))
    }
    weights = random.standard_normal((1, 30)).astype(np.float32)
    known = Classifiers(("x",), weights, np.zeros(1, np.float32), 1.0)
    known.save(tmp_path / "classifiers")
    found = []
    for name, size in (("here", row_group_bytes), ("there", 20_000)):
        held = make_store(tmp_path / name, [images], 30, "float16", row_group_bytes=size)
        spec = DetectSpec(held, tmp_path / "classifiers", Detection())
        detect_shard(spec, "00000", tmp_path / f"{name}-found")
        found.append((tmp_path / f"{name}-found/00000.parquet").read_bytes())
    assert found[0] == found[1]
