"""Linear SVMs against numbers worked by hand and against the dual solved another way."""

import ctypes
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import minimize

from pipeline.learning import LinearSVM, fit_svm

POSITIVES = [(20, 0), (16, 12), (12, 16)]
NEGATIVES = [(0, 20), (-12, 16), (-20, 0), (0, -20), (12, -16)]
X = np.array([*POSITIVES, *NEGATIVES], float)
Y = np.array([1] * 3 + [-1] * 5)
PAPER = {"C": 0.001, "positive_weight": 2, "bias": 10, "tolerance": 1e-8}


def loss(X, y, svm, C=0.001, positive_weight=2.0, bias=10.0):
    """The objective of SPEC §6, term by term."""
    total = 0.5 * sum(w * w for w in svm.weights) + 0.5 * (svm.intercept / bias) ** 2
    for row, label in zip(np.asarray(X, float), y, strict=True):
        sign = 1 if label > 0 else -1
        hinge = max(0.0, 1 - sign * (float(row @ svm.weights) + svm.intercept))
        total += C * (positive_weight if sign > 0 else 1) * hinge
    return total


def test_the_worked_example():
    svm = fit_svm(X, Y, **PAPER)
    np.testing.assert_allclose(svm.weights, [0.053333, 0.026667], atol=2e-6)
    assert svm.intercept == pytest.approx(-0.066667, abs=2e-6)
    assert svm.objective == pytest.approx(0.0055333, abs=5e-8)
    assert svm.objective == pytest.approx(loss(X, Y, svm), rel=1e-12)


@given(st.permutations(range(8)))
def test_the_order_of_rows_does_not_matter(order):
    svm = fit_svm(X[order], Y[order], **PAPER)
    assert svm.objective == pytest.approx(0.0055333333, rel=1e-6)


def test_equal_calls_give_equal_bits_whatever_the_process_has_rolled():
    found = []
    for seed in (1, 99):
        ctypes.CDLL(None).srand(seed)
        svm = fit_svm(X, Y)
        found.append((svm.weights.tobytes(), svm.intercept, svm.objective))
    assert found[0] == found[1]


@pytest.mark.parametrize("labels", [Y, Y > 0, Y.tolist(), (Y > 0).astype(np.float16), Y * 7])
def test_labels_are_positive_above_zero(labels):
    assert fit_svm(X, labels, **PAPER).objective == fit_svm(X, Y, **PAPER).objective


def test_a_first_negative_row_does_not_turn_the_signs():
    svm = fit_svm(X[::-1], Y[::-1], **PAPER)
    np.testing.assert_allclose(svm.weights, [0.053333, 0.026667], atol=2e-6)


def test_scores_by_hand():
    svm = LinearSVM(np.array([2.0, -3.0]), 5.0, 0.0)
    assert svm.scores([[1, 1], [0, 7]]).tolist() == [4, -16]


@pytest.mark.parametrize(
    "kind",
    [
        lambda rows: rows.astype(np.float16),
        lambda rows: rows.astype(np.float32),
        lambda rows: rows.astype(np.int16),
        lambda rows: rows.tolist(),
        sparse.csr_matrix,
        sparse.csc_array,
        sparse.coo_array,
        np.asfortranarray,
    ],
)
def test_inputs_of_every_kind(kind):
    svm, other = fit_svm(X, Y, **PAPER), fit_svm(kind(X), Y, **PAPER)
    assert other.weights.tolist() == svm.weights.tolist()
    assert (other.intercept, other.objective) == (svm.intercept, svm.objective)


def test_numbers_of_every_kind():
    expected = fit_svm(X, Y, 1.0, 2.0, 10.0).objective
    assert fit_svm(X, Y, 1, 2, 10).objective == expected
    assert fit_svm(X, Y, np.float64(1), np.float64(2), np.float64(10)).objective == expected


def test_the_scale_multiplies_the_vectors():
    svm, scaled = fit_svm(X * 0.25, Y, **PAPER), fit_svm(X, Y, **PAPER, scale=0.25)
    assert scaled.weights.tolist() == svm.weights.tolist()
    assert scaled.objective == svm.objective


def test_without_a_bias():
    svm = fit_svm(X, Y, C=0.001, bias=-1, tolerance=1e-8)
    assert svm.intercept == 0
    assert svm.weights.shape == (2,)
    assert svm.objective > fit_svm(X, Y, **PAPER).objective


def test_weighing_positives():
    """One positive at +1, one negative at -1, both inside the margin: w = C·(p + 1)."""
    for weight in (1, 5):
        svm = fit_svm([[1.0], [-1.0]], [1, 0], C=0.01, positive_weight=weight, bias=0)
        assert svm.weights[0] == pytest.approx(0.01 * (weight + 1))


def dual_optimum(X, y, C, positive_weight, bias):
    """max Σα - ½|Σ α y x̃|², 0 ≤ α ≤ C or pC: equal to the primal's minimum."""
    signs = np.where(y > 0, 1.0, -1.0)
    rows = np.hstack([X, np.full((len(X), 1), bias)]) * signs[:, None]
    upper = np.where(y > 0, positive_weight * C, C)

    def negated(alpha):
        weights = alpha @ rows
        return 0.5 * weights @ weights - alpha.sum(), rows @ weights - 1

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 20_000, "maxfun": 200_000}
    bounds = [(0, limit) for limit in upper]
    found = minimize(
        negated, upper / 2, jac=True, bounds=bounds, method="L-BFGS-B", options=options
    )
    return -found.fun


@settings(max_examples=12)
@given(st.integers(0, 2**31), st.sampled_from([0.001, 0.1]), st.sampled_from([1.0, 2.0, 7.0]))
def test_objectives_equal_another_solvers(seed, C, positive_weight):
    random = np.random.default_rng(seed)
    y = np.r_[np.ones(9), np.zeros(41)]
    X = random.normal(size=(50, 7)) * 3 + y[:, None]
    svm = fit_svm(X, y, C, positive_weight, 10.0)
    assert svm.objective == pytest.approx(loss(X, y, svm, C, positive_weight), rel=1e-9)
    expected = dual_optimum(X, y, C, positive_weight, 10.0)
    assert svm.objective == pytest.approx(expected, rel=1e-3)


def test_more_rounds_than_liblinear_allows():
    # C·|x̃|² is 16 here: after its 300 rounds liblinear is 2% above the optimum
    random = np.random.default_rng(1)
    y = np.r_[np.ones(9), np.zeros(41)]
    X = random.normal(size=(50, 7)) * 3 + y[:, None]
    for bias in (10.0, 1.0):
        svm = fit_svm(X, y, C=0.1, positive_weight=7, bias=bias, tolerance=1e-3)
        assert svm.objective == pytest.approx(loss(X, y, svm, 0.1, 7, bias), rel=1e-9)
        assert svm.objective == pytest.approx(dual_optimum(X, y, 0.1, 7.0, bias), rel=1e-3)
    turned = fit_svm(-X, 1 - y, C=0.1, bias=-1, tolerance=1e-3)
    assert turned.intercept == 0
    assert turned.objective == pytest.approx(dual_optimum(-X, 1 - y, 0.1, 2.0, 0.0), rel=1e-3)


def test_more_rows_than_a_block():
    random = np.random.default_rng(0)
    X = random.normal(size=(2500, 3)).astype(np.float16)
    y = random.random(2500) < 0.1
    X[y] += 1
    svm = fit_svm(X, y, C=0.01)
    assert svm.objective == pytest.approx(loss(X, y, svm, C=0.01), rel=1e-9)
    assert fit_svm(sparse.csr_array(X.astype(float)), y, C=0.01).objective == svm.objective


@pytest.mark.parametrize(
    ("rows", "labels", "says"),
    [
        (X, Y[:5], r"vectors have shape \[8, 2\], but there are 5 labels"),
        (X[0], [1], r"vectors have shape \[2\]"),
        (X, np.ones(8), "8 positives and 0 negatives; an SVM needs both"),
        (X, np.zeros(8), "0 positives and 8 negatives"),
        (np.zeros((0, 2)), [], "0 positives and 0 negatives"),
        (np.where(X == 12, np.nan, X), Y, "not finite"),
        (sparse.csr_array(np.where(X == 12, np.inf, X)), Y, "not finite"),
    ],
)
def test_what_cannot_be_learned_from(rows, labels, says):
    with pytest.raises(ValueError, match=says):
        fit_svm(rows, labels)


def test_others_who_draw_from_rand_change_no_bit():
    X = np.random.default_rng(5).standard_normal((2000, 300))
    y = np.arange(2000) < 700
    alone = fit_svm(X, y, C=0.002)
    done = threading.Event()

    def draw():
        c_library = ctypes.CDLL(None)
        while not done.is_set():
            c_library.rand()

    thread = threading.Thread(target=draw)
    thread.start()
    disturbed = fit_svm(X, y, C=0.002)
    done.set()
    thread.join()
    assert np.array_equal(alone.weights, disturbed.weights)


def test_any_thread_may_fit_and_several_at_once():
    # liblinear's own C library bears calls from one thread only: others crashed the process.
    alone = fit_svm(X, Y, **PAPER)
    fitted = []
    threads = [
        threading.Thread(target=lambda: fitted.append(fit_svm(X, Y, **PAPER))) for _ in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.objective for each in fitted] == [alone.objective] * 3
