"""Many classes over one pool of rows: each to the same bits as alone; and the memory that takes."""

import ctypes
import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from pipeline.learning import liblinear
from pipeline.learning.kernels import as_rows
from pipeline.learning.nodes import build_nodes
from pipeline.learning.svm import fit_svm, fit_svms, needed_bytes

SETTINGS = {"C": 0.002, "tolerance": 1e-3, "scale": 0.5}


def pool(rows=400, dim=30, classes=5):
    """Half of the numbers zero, labels at random, and some rows that a class or all leave out."""
    random = np.random.default_rng(3)
    X = np.maximum(random.standard_normal((rows, dim)) * 4, 0).astype(np.float16)
    Y = random.choice([1, -1, -1, 0], (rows, classes)).astype(np.int8)
    Y[::7] = 0
    return X, Y


def bits(svm):
    return svm.weights.tobytes(), svm.intercept, svm.objective


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_each_class_is_that_of_its_rows_alone_to_the_bit(dtype, threads):
    X, Y = pool()
    fits = fit_svms(X.astype(dtype), Y, **SETTINGS, threads=threads)
    for k, fit in enumerate(fits):
        used = Y[:, k] != 0
        alone = fit_svm(X[used].astype(np.float64), Y[used, k], **SETTINGS)
        assert bits(fit.svm) == bits(alone)
        assert fit.dual is None
        assert fit.passes > 1


def test_a_class_that_needs_more_rounds_gets_them_in_the_pool_too():
    # C·|x̃|² is 16 in these: see the test of the same in test_svm
    random = np.random.default_rng(1)
    y = np.r_[np.ones(9), -np.ones(41)]
    X = (random.normal(size=(50, 7)) * 3 + y[:, None]).astype(np.float16)
    settings = {"C": 0.1, "positive_weight": 7, "bias": 10.0, "tolerance": 1e-3}
    rows = np.vstack([X, np.full((1, 7), np.nan, np.float16)])
    [fit] = fit_svms(rows, np.append(y, 0).astype(np.int8)[:, None], **settings)
    assert bits(fit.svm) == bits(fit_svm(X, y, **settings))
    assert fit.passes > 300


def test_sparse_rows_and_their_dense_form_agree():
    X, Y = pool()
    for solver in ("liblinear", "dense"):
        dense = fit_svms(X.astype(float), Y, **SETTINGS, solver=solver)
        found = fit_svms(sparse.coo_array(X.astype(float)), Y, **SETTINGS, solver=solver)
        assert [bits(fit.svm) for fit in found] == [bits(fit.svm) for fit in dense]


def test_where_no_second_copy_of_liblinear_can_be_loaded_one_thread_does_all(monkeypatch):
    X, Y = pool()
    expected = [bits(fit.svm) for fit in fit_svms(X, Y, **SETTINGS, threads=1)]
    first = liblinear._solver(0)
    monkeypatch.setattr(liblinear, "_solver", lambda place: None if place else first)
    assert [bits(fit.svm) for fit in fit_svms(X, Y, **SETTINGS, threads=3)] == expected


def test_without_a_way_to_load_apart_the_first_is_loaded_plainly(monkeypatch):
    plain = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path, **more: plain(path, **more) if path else None)
    assert liblinear._load(one_more=True) is None
    assert liblinear._load(one_more=False).train.restype is ctypes.POINTER(liblinear.model)


@pytest.mark.parametrize("solver", ["liblinear", "dense"])
@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_a_row_that_nobody_uses_may_hold_anything(solver, number):
    X, Y = pool()
    expected = [bits(fit.svm) for fit in fit_svms(X, Y, **SETTINGS, solver=solver)]
    X[7] = number
    assert [bits(fit.svm) for fit in fit_svms(X, Y, **SETTINGS, solver=solver)] == expected
    X[8, 5] = number
    with pytest.raises(ValueError, match="a vector holds a number that is not finite"):
        fit_svms(X, Y, **SETTINGS, solver=solver)


def test_what_cannot_be_fitted():
    X, Y = pool()
    with pytest.raises(ValueError, match=r"shape \[400, 30\], but there are 399 labels"):
        fit_svms(X, Y[1:])
    Y[:, 3] = np.minimum(Y[:, 3], 0)
    with pytest.raises(ValueError, match=r"class 3 of the pool: 0 positives and .* needs both"):
        fit_svms(X, Y)
    with pytest.raises(ValueError, match="class 3 of the pool: 0 positives"):
        fit_svms(X, Y, solver="dense")


def test_no_class_is_no_fit():
    X, Y = pool()
    for solver in ("liblinear", "dense"):
        assert fit_svms(X, Y[:, :0], solver=solver) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("make", [as_rows, lambda rows: sparse.csr_array(rows.astype(float))])
def test_nodes_by_hand(dtype, make):
    rows = np.array([[0, 3, -5], [0, 0, 0], [7, 0, 0], [0, 6e-8, 65504]], dtype=dtype)
    nodes = build_nodes(make(rows), np.array([True, False, True, True]), 2.0, 10.0)
    index, value = nodes.array["index"].tolist(), nodes.array["value"].tolist()
    assert index == [2, 3, 4, -1, 1, 4, -1, 2, 3, 4, -1]
    written = [v for i, v in zip(index, value, strict=True) if i > 0]
    assert written == [6, -10, 10, 14, 10, 2 * float(rows[3, 1]), 131008, 10]
    first, past = nodes.of(np.array([2, 3]))
    assert (first.tolist(), past.tolist()) == ([4, 7], [6, 10])
    bare = build_nodes(make(rows), np.ones(4, bool), 2.0, -1.0)
    assert bare.array["index"].tolist() == [2, 3, -1, -1, 1, -1, 2, 3, -1]


def test_every_half_is_widened_exactly():
    """All 63,488 finite halves, with one scale that no half times is rounded and one that it is."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(62, 1024)
    for scale in (1.0, 0.3):
        nodes = build_nodes(as_rows(halves), np.ones(62, bool), scale, -1.0, threads=2)
        written = nodes.array["value"][nodes.array["index"] > 0]
        expected = halves.astype(np.float64)[halves != 0] * scale
        assert written.tolist() == expected.tolist()


def test_what_overflows_when_scaled_is_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        fit_svm([[1e300], [-1.0]], [1, 0], scale=1e10)


@pytest.mark.parametrize(("solver", "threads"), [("liblinear", 1), ("liblinear", 4), ("dense", 2)])
@pytest.mark.parametrize("dim", [100, 3])  # of few numbers a row, what each class takes is most
def test_memory_stays_within_what_is_stated(solver, threads, dim):
    """liblinear's own, 40 bytes a row and class at work, is not seen by tracemalloc."""
    X, Y = pool(400_000 // dim, dim, 6)
    arguments = {**SETTINGS, "solver": solver, "threads": threads}
    fit_svms(X, Y, **arguments)
    tracemalloc.start()
    fits = fit_svms(X, Y, **arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    used = (Y != 0).any(axis=1)
    nonzeros = int(np.count_nonzero(X[used]))
    unseen = 40 * int(used.sum()) * threads if solver == "liblinear" else 0
    stated = needed_bytes(int(used.sum()), nonzeros, dim, solver, len(fits), threads)
    assert 0.4 * stated < peak + unseen < stated
