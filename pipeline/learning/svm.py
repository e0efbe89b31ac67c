"""A linear SVM with L2-regularised L1 hinge loss, solved in the dual by liblinear (SPEC §6)."""

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Float64
from liblinear.liblinear import feature_node, model, parameter, problem
from liblinear.liblinear import liblinear as shared_library
from numba import njit
from numpy.typing import ArrayLike
from scipy import sparse

BLOCK_ROWS = 1024  # rows converted at a time, so that no wide copy of everything is made
MOST_ROUNDS = 10_000  # over all rows; then scikit-learn warns
NODE = np.dtype([("index", np.int32), ("value", np.float64)], align=True)  # its feature_node
Rows = Any  # an ndarray or a csr_array; scipy's own annotations leave its shape open


@dataclass(frozen=True)
class LinearSVM:
    """`score = weights · x + intercept`."""

    weights: Float64[np.ndarray, " dim"]
    intercept: float
    objective: float
    """`½|w|² + ½(b/B)² + C(p·Σ hinge₊ + Σ hinge₋)` at the solution."""

    def scores(self, X: ArrayLike) -> Float[np.ndarray, " windows"]:
        """Return the signed score of each row of `[windows dim]`."""
        return np.asarray(X) @ self.weights + self.intercept


def fit_svm(
    X: ArrayLike | sparse.spmatrix | sparse.sparray,
    y: ArrayLike,
    C: int | float = 0.001,
    positive_weight: int | float = 2.0,
    bias: int | float = 10.0,
    tolerance: float = 1e-4,
    scale: int | float = 1.0,
) -> LinearSVM:
    """Fit one class against the rest: liblinear's `-s 3`.

    Args:
        X: `[windows dim]`, dense of any float dtype, or sparse.
        y: `[windows]`; positive where above zero.
        C: cost of a unit of hinge loss.
        positive_weight: multiplies the cost of positives.
        bias: constant feature appended to each row; its weight is regularised. Zero or less: none.
        tolerance: of the dual gradient; the objective is then exact to about as much.
        scale: multiplies `X` on its way in, without a copy of it.

    Raises:
        ValueError: rows and labels differ in number, a class has no example, or a number is not
            finite.

    Source: R-CNN's and SPP-net's `-s 3 -c 0.001 -w1 2 -B 10`.
    """
    rows: Rows = sparse.csr_array(X) if sparse.issparse(X) else np.asarray(X)
    labels = np.where(np.asarray(y).reshape(-1) > 0, 1.0, -1.0)
    if rows.ndim != 2 or rows.shape[0] != len(labels):
        raise ValueError(
            f"vectors have shape {list(rows.shape)}, but there are {len(labels)} labels"
        )
    positives = int((labels > 0).sum())
    if positives in (0, len(labels)):
        raise ValueError(
            f"{positives} positives and {len(labels) - positives} negatives; an SVM needs both"
        )
    C, positive_weight, bias, scale = map(float, (C, positive_weight, bias, scale))
    options = f"-s 3 -c {C} -w1 {positive_weight} -e {tolerance} -q"
    solution = _solve(_Problem(rows, labels, bias, scale), parameter(options))
    if solution is None:
        solution = _solve_longer(rows, labels, C, positive_weight, bias, tolerance, scale)
    weights, intercept = solution
    cost = C * np.where(labels > 0, positive_weight, 1.0)
    hinge = sum(
        float(cost[part] @ np.maximum(0, 1 - labels[part] * (block @ weights + intercept)))
        for part, block in _blocks(rows, scale)
    )
    last = intercept / bias if bias > 0 else 0.0
    return LinearSVM(weights, intercept, float(0.5 * (weights @ weights + last**2) + hinge))


def _solve(given: problem, how: parameter) -> tuple[np.ndarray, float] | None:
    """Return weights and intercept, or None where liblinear gave up at its fixed 300 rounds."""
    return _solver().submit(_solve_here, given, how).result()


@cache
def _solver() -> ThreadPoolExecutor:
    """Return the one thread that loads and calls liblinear.

    A C library of its own has prepared the thread that loaded it and no other: a second one that
    called it crashed. And two fits at the same time would draw from one `rand()`.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="liblinear")


def _solve_here(given: problem, how: parameter) -> tuple[np.ndarray, float] | None:
    library = _library()
    library.srand(1)  # it visits rows in the order of rand()
    said: list[bytes] = []
    listener = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(said.append)
    library.set_print_string_function(listener)
    fitted = library.train(ctypes.byref(given), ctypes.byref(how))
    solution = np.array(np.ctypeslib.as_array(fitted.contents.w, (given.n,)))
    solution *= 1.0 if fitted.contents.label[0] > 0 else -1.0
    library.free_and_destroy_model(ctypes.byref(fitted))
    if b"max number of iterations" in b"".join(said):  # it tells nobody else
        return None
    if given.bias <= 0:
        return solution, 0.0
    return solution[:-1], float(solution[-1] * given.bias)


@cache
def _library() -> ctypes.CDLL:
    """Return liblinear with a C library of its own, where the loader can do that.

    `rand()` has one state a process, and Ray's threads draw from it while a fit runs: two of ten
    refits differed in their last digits. In a namespace of its own nobody else draws.
    """
    path = shared_library._name
    open_apart = getattr(ctypes.CDLL(None), "dlmopen", None)  # glibc's; musl and macOS have none
    handle = None
    if open_apart is not None:
        open_apart.restype = ctypes.c_void_p
        new_namespace = ctypes.c_long(-1)
        handle = open_apart(new_namespace, os.fsencode(path), ctypes.c_int(os.RTLD_NOW))
    library = ctypes.CDLL(path, handle=handle)
    library.train.restype = ctypes.POINTER(model)
    return library


def _solve_longer(
    rows: Rows,
    labels: np.ndarray,
    C: float,
    positive_weight: float,
    bias: float,
    tolerance: float,
    scale: float,
) -> tuple[np.ndarray, float]:
    """Return the same from scikit-learn's build of the same solver, whose rounds can be set.

    It holds more copies of the rows, and is needed where `C·|x|²` is far above the paper's 0.5.
    """
    from sklearn.svm import LinearSVC  # a second to import, rarely needed

    solver = LinearSVC(
        loss="hinge",
        C=C,
        class_weight={1.0: positive_weight},
        fit_intercept=bias > 0,
        intercept_scaling=bias if bias > 0 else 1.0,  # pyright: ignore[reportArgumentType]
        tol=tolerance,
        max_iter=MOST_ROUNDS,
        random_state=0,
    )
    solver.fit(sparse.vstack([sparse.csr_array(b) for _, b in _blocks(rows, scale)]), labels)
    return solver.coef_[0], float(np.ravel(solver.intercept_)[0])


class _Problem(problem):
    """liblinear's own rows, built from blocks: the package's way holds three copies at once."""

    def __init__(self, rows: Rows, labels: np.ndarray, bias: float, scale: float) -> None:
        counts = np.concatenate([_nonzeros(block) for _, block in _blocks(rows, scale)])
        ends = 1 + (bias > 0)  # each row ends with the bias, if any, and a mark
        starts = np.concatenate([[0], np.cumsum(counts + ends)])
        nodes = np.empty(starts[-1], dtype=NODE)
        for part, block in _blocks(rows, scale):
            _fill(block, starts[part], bias, nodes["index"], nodes["value"])
        address = nodes.ctypes.data + starts[:-1] * NODE.itemsize
        self._kept = (nodes, address, labels)  # ctypes holds no reference of its own
        self.l, self.n = len(labels), rows.shape[1] + (bias > 0)
        self.y = labels.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        self.x = address.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(feature_node)))
        self.bias = bias if bias > 0 else -1.0


def _blocks(rows: Rows, scale: float) -> Iterator[tuple[slice, Float64[np.ndarray, "rows dim"]]]:
    for start in range(0, rows.shape[0], BLOCK_ROWS):
        part = slice(start, min(start + BLOCK_ROWS, rows.shape[0]))
        block = rows[part]
        dense = block if isinstance(block, np.ndarray) else block.toarray()
        yield part, np.multiply(dense, scale, dtype=np.float64)


def _nonzeros(block: np.ndarray) -> np.ndarray:
    if not np.isfinite(block).all():
        raise ValueError("a vector holds a number that is not finite; an SVM cannot learn from it")
    return np.count_nonzero(block, axis=1)


@njit(cache=True)
@no_type_check  # compiled: numba checks the types, and cannot compile a checking wrapper
def _fill(block, starts, bias, index, value):  # pragma: no cover - compiled
    rows, dim = block.shape
    for row in range(rows):
        at = starts[row]
        for column in range(dim):
            if block[row, column] != 0:
                index[at], value[at] = column + 1, block[row, column]
                at += 1
        if bias > 0:
            index[at], value[at] = dim + 1, bias
            at += 1
        index[at] = -1
