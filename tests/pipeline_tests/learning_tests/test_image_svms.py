"""Classifiers of whole images, on vectors of length 1."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config import Classification
from pipeline.errors import InputError
from pipeline.learning import classifiers, fit_svm
from pipeline.learning.image_svms import fit_images, normalised
from pipeline.store.blocks import as_block

CLASSES = ("cat", "dog", "cow")
RANDOM = np.random.default_rng(0)
VECTORS = (RANDOM.standard_normal((40, 24)) * RANDOM.uniform(1, 90, (40, 1))).astype(np.float16)
LABELS = np.where(RANDOM.integers(0, 3, 40)[:, None] == np.arange(3), 1, -1).astype(np.int8)
SETTINGS = Classification()


def test_each_class_is_liblinears_on_vectors_of_length_one():
    fitted = fit_images(VECTORS, LABELS, CLASSES, SETTINGS, {})
    unit = normalised(VECTORS)
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1, abs=1e-6)
    for k, told in enumerate(fitted.training["classes"]):
        judge = fit_svm(unit, LABELS[:, k], C=1.0, positive_weight=1.0, bias=1.0)
        assert told["objective"] == pytest.approx(judge.objective, rel=2e-3)
        scores = unit @ fitted.weights[k] + fitted.intercepts[k]
        assert scores == pytest.approx(judge.scores(unit), abs=0.02)


def test_scores_are_of_vectors_as_they_are_stored(tmp_path: Path):
    fitted = fit_images(VECTORS, LABELS, CLASSES, SETTINGS, {"network": "a"})
    fitted.save(tmp_path)
    known = classifiers.load(tmp_path)
    assert (known.unit, known.made_from) == (True, {"network": "a"})
    expected = normalised(VECTORS) @ fitted.weights.T + fitted.intercepts
    assert known.score(VECTORS) == pytest.approx(expected, abs=1e-5)
    longer = (VECTORS.astype(np.float32) * 4).astype(np.float32)
    assert known.score(longer) == pytest.approx(expected, abs=1e-5)
    assert known.only("dog").score(VECTORS)[:, 0] == pytest.approx(expected[:, 1], abs=1e-5)


def test_a_vector_of_zeros_has_the_intercepts():
    fitted = fit_images(VECTORS, LABELS, CLASSES, SETTINGS, {})
    nothing = np.zeros((1, 24), np.float16)
    assert np.array_equal(fitted.score(nothing)[0], fitted.intercepts)
    assert as_block(nothing).lengths().tolist() == [1]


def test_a_difficult_image_is_in_no_problem_of_that_class():
    labels = LABELS.copy()
    hard = int(np.flatnonzero(labels[:, 0] > 0)[0])
    labels[hard, 0] = 0
    fitted = fit_images(VECTORS, labels, CLASSES, SETTINGS, {})
    others = np.delete(np.arange(40), hard)
    apart = fit_images(VECTORS[others], labels[others], CLASSES, SETTINGS, {})
    assert fitted.weights[0] == pytest.approx(apart.weights[0], abs=1e-4)
    assert fitted.training["classes"][0]["positives"] == (LABELS[:, 0] > 0).sum() - 1


def test_a_class_that_none_or_all_show():
    labels = LABELS.copy()
    labels[:, 1] = -1
    with pytest.raises(InputError, match="class dog: 0 training images show it and 40 do not"):
        fit_images(VECTORS, labels, CLASSES, SETTINGS, {})
    labels[:, 1] = 1
    with pytest.raises(InputError, match="class dog: 40 training images show it and 0 do not"):
        fit_images(VECTORS, labels, CLASSES, SETTINGS, {})


def test_more_memory_than_may_be_taken():
    small = Classification(memory_bytes=1000)
    with pytest.raises(InputError, match=r"3 classes on 40 vectors of 24 numbers .*memory_bytes"):
        fit_images(VECTORS, LABELS, CLASSES, small, {})
