"""Ridge regression of box offsets."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import boxes
from pipeline.errors import InputError
from pipeline.learning import box_regression
from pipeline.learning.box_regression import fit_box_regressor


def test_one_feature_by_hand():
    # X̃ᵀX̃ = [[2, 0], [0, 2]] and X̃ᵀỸ = (2·3, 0), so w = 6 / (2 + 4) = 1 and the bias is the mean.
    fitted = fit_box_regressor([[1.0], [-1.0]], [[10.0], [4.0]], ridge=4.0)
    np.testing.assert_allclose(fitted.weights, [[1.0]])
    np.testing.assert_allclose(fitted.bias, [7.0])
    np.testing.assert_allclose(fitted.predict([[5.0], [0.0]]), [[12.0], [7.0]])


def test_bias_is_penalised():
    # One feature, 0 then 2, centred targets -1 and 1, λ = 1. X̃ᵀX̃ + I = [[5, 2], [2, 3]],
    # X̃ᵀỸ = (2, 0): w = 6/11, b = -4/11. An unpenalised bias would give w = 2/3, b = -2/3.
    fitted = fit_box_regressor([[0.0], [2.0]], [[-1.0], [1.0]], ridge=1.0)
    np.testing.assert_allclose(fitted.weights, [[6 / 11]])
    np.testing.assert_allclose(fitted.bias, [-4 / 11])


@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-3, 1e4), st.integers(0, 2**32 - 1))
def test_primal_equals_dual(windows, features, ridge, seed):
    random = np.random.default_rng(seed)
    X, Y = random.normal(size=(windows, features)), random.normal(size=(windows, 4))
    given = (lambda part: X[part], features, Y, ridge)
    primal, dual = box_regression._solve_primal(*given), box_regression._solve_dual(*given)
    np.testing.assert_allclose(primal, dual, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(50, 7), (7, 50), (8, 7), (7, 7)])
def test_minimises_the_objective(shape):
    random = np.random.default_rng(2)
    X, Y = random.normal(size=shape).astype(np.float32), random.normal(size=(shape[0], 4))
    fitted = fit_box_regressor(X, Y, ridge=3.0)
    # at the minimum the gradient is zero: X̃ᵀ(X̃W + mean − Y) + λW = 0, whitened or not
    ones = np.hstack([X.astype(np.float64), np.ones((len(X), 1))])
    W = np.vstack([fitted.weights, fitted.bias - Y.mean(axis=0)])
    gradient = ones.T @ (ones @ W + Y.mean(axis=0) - Y) + 3.0 * W
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


def test_blocks_change_nothing(monkeypatch):
    random = np.random.default_rng(3)
    for shape in ((11, 5), (5, 11)):
        X, Y = random.normal(size=shape), random.normal(size=(shape[0], 4))
        whole = fit_box_regressor(X, Y, ridge=1.0)
        monkeypatch.setattr(box_regression, "BLOCK", 3)
        np.testing.assert_allclose(fit_box_regressor(X, Y, ridge=1.0).weights, whole.weights)
        monkeypatch.undo()


def test_whitening_gives_unit_covariance():
    random = np.random.default_rng(5)
    Y = random.normal(size=(1000, 4)) @ random.normal(size=(4, 4)) * 10
    Y -= Y.mean(axis=0)
    whiten, unwhiten = box_regression._whitening(Y)
    white = Y @ whiten
    np.testing.assert_allclose(white.T @ white / len(Y), np.eye(4), atol=0.001)
    np.testing.assert_allclose(whiten @ unwhiten, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(whiten, whiten.T)


def test_constant_targets_and_a_single_window():
    fitted = fit_box_regressor([[2.0, 3.0]], [[0.1, -0.2, 0.0, 5.0]])
    np.testing.assert_allclose(fitted.predict([[-7.0, 11.0]]), [[0.1, -0.2, 0.0, 5.0]])


def test_learns_to_move_boxes():
    random = np.random.default_rng(7)
    windows = np.array([[10, 20, 109, 219]], dtype=np.float32).repeat(60, axis=0)
    features = random.normal(size=(60, 3)).astype(np.float32)
    moved = windows + (features[:, :1] * 5).astype(np.float32)  # feature 0 tells the shift, ×5 px
    fitted = fit_box_regressor(features, boxes.encode(windows, moved), ridge=1e-6)
    back = boxes.decode(windows, fitted.predict(features).astype(np.float32))
    np.testing.assert_allclose(back, moved, atol=1e-3)


@pytest.mark.parametrize("shape", [(70, 9), (9, 70)])
def test_blocks_are_fetched_and_scaled(shape, monkeypatch):
    monkeypatch.setattr(box_regression, "BLOCK", 16)
    random, asked = np.random.default_rng(4), []
    X, Y = random.normal(size=shape).astype(np.float16), random.normal(size=(shape[0], 4))

    def rows(part):
        asked.append(part.stop - part.start)
        return X[part]

    fetched = box_regression.fit_rows(rows, shape[1], Y, 2.0, scale=0.5)
    whole = fit_box_regressor(X.astype(np.float64) * 0.5, Y, 2.0)
    np.testing.assert_allclose(fetched.weights, whole.weights, rtol=1e-9)
    # Where features are fewer, not all windows are held at a time.
    assert asked == ([16, 16, 16, 16, 6] if shape[0] > shape[1] else [9])


def test_memory_is_what_was_said(monkeypatch):
    for windows, length in ((3000, 700), (900, 4000)):
        X = np.random.default_rng(0).normal(size=(windows, length)).astype(np.float16)
        Y = np.random.default_rng(1).normal(size=(windows, 4))
        tracemalloc.start()
        box_regression.fit_rows(lambda part, X=X: X[part].copy(), length, Y, 1000.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        said = box_regression.fit_bytes(windows, length, 2)
        assert 0.4 * said < peak < 1.05 * said, (windows, length, peak, said)


def test_takes_lists_and_tensors():
    X, Y = torch.tensor([[1.0], [-1.0]]), torch.tensor([[3.0], [-3.0]])
    assert fit_box_regressor(X, Y, 1).predict(X).shape == (2, 1)
    assert fit_box_regressor([[1.0]], [[3.0]]).predict(np.zeros((0, 1))).shape == (0, 1)


@pytest.mark.parametrize(
    ("X", "Y", "ridge", "says"),
    [
        (np.zeros((0, 3)), np.zeros((0, 4)), 1.0, "no windows"),
        (np.zeros((2, 3)), np.zeros((3, 4)), 1.0, r"\(2, 3\) and targets \(3, 4\)"),
        (np.full((2, 3), np.nan), np.zeros((2, 4)), 1.0, "not finite"),
        (np.zeros((2, 3)), np.zeros((2, 4)), -1.0, "ridge is -1.0"),
        (np.zeros((2, 3)), np.zeros((2, 4)), 0.0, "singular; raise it"),
    ],
)
def test_refuses(X, Y, ridge, says):
    with pytest.raises(InputError, match=says):
        fit_box_regressor(X, Y, ridge)


def test_predict_refuses_other_features():
    with pytest.raises(InputError, match=r"shape \(2, 5\).*1 features"):
        fit_box_regressor([[1.0]], [[3.0]]).predict(np.zeros((2, 5)))
