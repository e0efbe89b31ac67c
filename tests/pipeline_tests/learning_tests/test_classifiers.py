"""Scoring with a set of classifiers, and keeping it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from pipeline.errors import InputError
from pipeline.learning import Classifiers
from pipeline.learning.classifiers import load
from pipeline.store import VectorSpec
from pipeline.store.blocks import block_of


@pytest.fixture
def known():
    return Classifiers(
        classes=("cat", "dog", "bird"),
        weights=np.array([[1, 0], [0, -2], [3, 5]], np.float32),
        intercepts=np.array([0, 0.5, -7], np.float32),
        scale=0.5,
        made_from={"network": "ab12", "features": {"scales": [480, 576]}},
        training={"classes": [{"objective": 0.25}], "svm": {"C": 0.001}},
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_by_hand(known, dtype):
    scores = known.score(np.array([[2, 4], [-6, 8]], dtype))
    # half of each vector: (1, 2) and (-3, 4)
    assert scores.tolist() == [[1, 0.5 - 4, 3 + 10 - 7], [-3, 0.5 - 8, -9 + 20 - 7]]
    assert scores.dtype == np.float32


def test_no_windows_have_no_scores(known):
    assert known.score(np.zeros((0, 2), np.float16)).shape == (0, 3)


def test_more_windows_than_a_block(known):
    vectors = np.arange(10_000, dtype=np.float32).reshape(5000, 2)
    expected = vectors * 0.5 @ known.weights.T + known.intercepts
    np.testing.assert_allclose(known.score(vectors), expected, rtol=1e-6)


@pytest.mark.parametrize("dim", [2, 301])
def test_a_scorer_gives_the_same_each_time_and_writes_to_nothing_it_was_given(dim):
    random = np.random.default_rng(dim)
    weights = random.standard_normal((5, dim)).astype(np.float32)
    known = Classifiers(tuple("abcde"), weights, np.zeros(5, np.float32), 0.3)
    score = known.scorer()
    images = [random.random((rows, dim)).astype(np.float16) for rows in (700, 1, 5000, 0, 40)]
    for image in images:  # a file's memory cannot be written to
        image.setflags(write=False)
    first = [score(image) for image in images]
    for image, found in zip(images, first, strict=True):
        assert found.tolist() == known.score(image).tolist() == score(image).tolist()
        wide = image.astype(np.float64) * 0.3 @ weights.T
        np.testing.assert_allclose(found, wide, rtol=1e-4, atol=1e-4)


FEATURES = {
    **{"scales": [480, 576], "levels": [6, 3], "layer": "pool5", "vector_layout": "binary"},
    **{"scale_rule": "area", "reference_side_px": 224, "max_side_px": None},
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"network": "cd34"}, "network = ab12; there was made with cd34"),
        ({"features": {"scales": [480]}}, r"features.scales = \[480, 576\]; there .* \[480\]"),
        ({"features": {"layer": "fc7"}}, "features.layer = pool5; there was made with fc7"),
        ({"features": {"levels": [3]}}, r"features.levels = \[6, 3\]; there"),
        ({"features": {"scale_rule": "released"}}, "features.scale_rule = area; there"),
        ({"features": {"reference_side_px": 180}}, "features.reference_side_px = 224; there"),
        ({"features": {"max_side_px": 900}}, "features.max_side_px = None; there"),
        ({"features": {"vector_layout": "list", "store": "maps"}}, None),
        ({"split": "test", "dataset": "other", "windows": "others"}, None),
    ],
)
def test_vectors_that_others_made_are_refused(known, change, says):
    mine = {"network": "ab12", "features": FEATURES, "split": "train", "dataset": "voc"}
    theirs = {**mine, **change, "features": {**FEATURES, **change.get("features", {})}}
    known = dataclasses.replace(known, made_from=mine)
    if says is None:
        known.check_fits(theirs, Path("there"))
        return
    with pytest.raises(InputError, match=says):
        known.check_fits(theirs, Path("there"))


def test_vectors_of_another_length_are_refused(known):
    says = "the vectors have 3 numbers, the classifiers read 2"
    with pytest.raises(InputError, match=says):
        known.score(np.zeros((1, 3), np.float32))


def test_saved_and_loaded(known, tmp_path):
    known.save(tmp_path / "deep")
    found = load(tmp_path / "deep")
    assert found.classes == known.classes
    assert found.scale == 0.5
    assert found.made_from == known.made_from
    assert found.training == known.training
    assert found.weights.tobytes() == known.weights.tobytes()
    assert found.intercepts.tobytes() == known.intercepts.tobytes()
    vectors = np.array([[2, 4]], np.float16)
    assert found.score(vectors).tolist() == known.score(vectors).tolist()


def test_equal_classifiers_are_equal_files(known, tmp_path):
    for name in ("a", "b"):
        known.save(tmp_path / name)
    for file in ("classifiers.safetensors", "classifiers.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "classifiers.json",
        "classifiers.safetensors",
    ]


def test_absent_and_cut_files(known, tmp_path):
    with pytest.raises(InputError, match=r"nowhere holds no classifiers: classifiers\.json is"):
        load(tmp_path / "nowhere")
    known.save(tmp_path)
    weights, description = (tmp_path / f"classifiers.{kind}" for kind in ("safetensors", "json"))
    whole = weights.read_bytes()
    for cut in (0, 5, 40, len(whole) - 1):
        weights.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"classifiers\.safetensors cannot be read"):
            load(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"classifiers\.safetensors cannot be read"):
        load(tmp_path)
    description.write_text(description.read_text()[:-9])
    with pytest.raises(InputError, match=r"classifiers\.json is absent or damaged"):
        load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": None},
        {"classes": 3},
        {"scale": None},
        {"scale": "much"},
        {"unknown": 1},
        {"weights": [1]},
    ],
)
def test_a_description_that_does_not_fit(known, tmp_path, change):
    known.save(tmp_path)
    path = tmp_path / "classifiers.json"
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("weights", "intercepts", "says"),
    [
        (np.zeros((2, 5)), np.zeros(2), r"weights \[2, 5\] and intercepts \[2\] for 3 classes"),
        (np.zeros((3, 5)), np.zeros(2), r"intercepts \[2\] for 3 classes"),
        (np.zeros(3), np.zeros(3), r"weights \[3\]"),
    ],
)
def test_tensors_of_other_shapes(known, tmp_path, weights, intercepts, says):
    known.save(tmp_path)
    tensors = {"weights": weights.astype(np.float32), "intercepts": intercepts.astype(np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "classifiers.safetensors")
    with pytest.raises(InputError, match=says):
        load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["weights", "intercepts"])
def test_numbers_that_are_not_finite(known, tmp_path, name, value):
    getattr(known, name)[1] = value
    known.save(tmp_path)
    with pytest.raises(InputError, match=rf"{name} has \d of \d numbers that are not finite"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.complex64])
def test_numbers_of_another_type(known, tmp_path, dtype):
    known.save(tmp_path)
    held = {"weights": known.weights.astype(dtype), "intercepts": known.intercepts}
    safetensors.numpy.save_file(held, tmp_path / "classifiers.safetensors")
    with pytest.raises(InputError, match=r"where float32 is written|cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("content", [{"weights": np.zeros((3, 2), np.float32)}, {"x": np.zeros(1)}])
def test_tensors_that_are_missing(known, tmp_path, content):
    known.save(tmp_path)
    safetensors.numpy.save_file(content, tmp_path / "classifiers.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_that_lie_in_a_file_have_the_same_scores_to_the_bit(dtype):
    random = np.random.default_rng(3)
    held = random.normal(size=(150, 4099)).astype(dtype)
    weights = random.normal(size=(3, 4099)).astype(np.float32)
    score = Classifiers(("a", "b", "c"), weights, np.ones(3, np.float32), 0.37).scorer()
    assert np.array_equal(score(block_of(held, VectorSpec(4099, dtype))), score(held))
    with pytest.raises(InputError, match="have 5 numbers, the classifiers read 4099"):
        score(block_of(held[:, :5], VectorSpec(5, dtype)))
