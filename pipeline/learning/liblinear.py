"""liblinear's dual solver for the L1 hinge, `-s 3`, several of them in one process.

`rand()`, in whose order it visits rows, has one state a C library. Ray's threads draw from it while
a fit runs: two of ten refits differed in their last digits. So liblinear is loaded with a C library
of its own, where nobody else draws. That one has prepared the thread which loaded it and no other
(a second one that called it crashed), hence a thread for each copy; and with several copies,
several classes are fitted at the same time, each to the same bits as alone.
"""

import ctypes
import os
import queue
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int8
from liblinear.liblinear import feature_node, model, parameter, problem
from liblinear.liblinear import liblinear as shared_library
from scipy import sparse

from pipeline.learning.kernels import node_hinge
from pipeline.learning.nodes import BLOCK_ROWS, NODE, DenseOrSparse, Nodes, build_nodes
from pipeline.learning.objective import Fit, Objective

MOST_COPIES = 4  # glibc lays in thread-local room for 4 (glibc.rtld.nns); 10 could be loaded here
MOST_PASSES = 10_000  # over all rows; then scikit-learn warns
LOADING, LONGER = threading.Lock(), threading.Lock()
Solution = tuple[Float64[np.ndarray, " dim_and_bias"], int]  # weights, and passes to find them


def fit(
    rows: DenseOrSparse, Y: Int8[np.ndarray, "rows classes"], objective: Objective, threads: int
) -> list[Fit]:
    """Fit each class on its rows, several classes at a time.

    Raises:
        ValueError: a number in use is not finite.
    """
    nodes = build_nodes(rows, (Y != 0).any(axis=1), objective.scale, objective.bias, threads)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for k in range(Y.shape[1]):
        waiting.put(k)
    fits: dict[int, Fit] = {}

    def work(library: ctypes.CDLL) -> None:
        while True:
            try:
                k = waiting.get_nowait()
            except queue.Empty:
                return
            fits[k] = _fit_class(library, rows, nodes, Y[:, k], objective)

    _on_solvers(work, min(threads, Y.shape[1]))
    return [fits[k] for k in range(Y.shape[1])]


def _fit_class(
    library: ctypes.CDLL,
    rows: DenseOrSparse,
    nodes: Nodes,
    y: Int8[np.ndarray, " rows"],
    objective: Objective,
) -> Fit:
    members = np.flatnonzero(y)
    labels = y[members].astype(np.float64)
    first, past = nodes.of(members)
    solution = _solve(library, _Problem(nodes, first, labels), objective)
    if solution is None:
        with LONGER:
            solution = _solve_longer(rows, members, labels, objective)
    weights, passes = solution
    index, value = nodes.array["index"], nodes.array["value"]
    hinge = node_hinge(first, past, labels, objective.limits, weights, index, value)
    if objective.bias > 0:
        return Fit(objective.svm(weights[:-1], float(weights[-1]), hinge), None, passes)
    return Fit(objective.svm(weights, 0.0, hinge), None, passes)


def _solve(library: ctypes.CDLL, given: problem, objective: Objective) -> Solution | None:
    """Return what liblinear finds, or None where it gave up at its fixed 300 passes."""
    options = f"-s 3 -c {objective.C} -w1 {objective.positive_weight} -e {objective.tolerance} -q"
    how = parameter(options)
    said: list[bytes] = []
    listener = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(said.append)
    library.srand(1)  # it visits rows in the order of rand()
    library.set_print_string_function(listener)
    fitted = library.train(ctypes.byref(given), ctypes.byref(how))
    weights = np.array(np.ctypeslib.as_array(fitted.contents.w, (given.n,)))
    weights *= 1.0 if fitted.contents.label[0] > 0 else -1.0
    library.free_and_destroy_model(ctypes.byref(fitted))
    text = b"".join(said)
    if b"max number of iterations" in text:  # it tells nobody else
        return None
    passes = re.search(rb"#iter = (\d+)", text)
    return weights, int(passes[1]) if passes else 0


def _solve_longer(
    rows: DenseOrSparse,
    members: Int[np.ndarray, " members"],
    labels: Float64[np.ndarray, " members"],
    objective: Objective,
) -> Solution:
    """Return the same from scikit-learn's build of the same solver, whose passes can be set.

    It holds more copies of the rows, about 60 bytes for each number that is not zero, and is needed
    where `C·|x|²` is far above the paper's 0.5. So one class at a time.
    """
    from sklearn.svm import LinearSVC  # a second to import, rarely needed

    bias = objective.bias
    solver = LinearSVC(
        loss="hinge",
        C=objective.C,
        class_weight={1.0: objective.positive_weight},
        fit_intercept=bias > 0,
        intercept_scaling=bias if bias > 0 else 1.0,  # pyright: ignore[reportArgumentType]
        tol=objective.tolerance,
        max_iter=MOST_PASSES,
        random_state=0,
    )
    parts = range(0, len(members), BLOCK_ROWS)
    blocks = [
        _scaled(rows, members[start : start + BLOCK_ROWS], objective.scale) for start in parts
    ]
    solver.fit(sparse.vstack(blocks), labels)
    passes = int(np.max(solver.n_iter_))
    if bias <= 0:
        return solver.coef_[0], passes
    return np.append(solver.coef_[0], np.ravel(solver.intercept_)[0] / bias), passes


def _scaled(
    rows: DenseOrSparse, members: Int[np.ndarray, " members"], scale: float
) -> sparse.csr_array:
    block = rows[members]
    dense = block if isinstance(block, np.ndarray) else block.toarray()
    if dense.dtype == np.uint16:  # halves, as the kernels read them
        dense = dense.view(np.float16)
    return sparse.csr_array(np.multiply(dense, scale, dtype=np.float64))


class _Problem(problem):
    """A class's rows, as pointers to nodes that all classes share."""

    def __init__(self, nodes: Nodes, first: np.ndarray, labels: np.ndarray) -> None:
        address = nodes.array.ctypes.data + first * NODE.itemsize
        self._kept = (nodes, address, labels)  # ctypes holds no reference of its own
        self.l, self.n = len(labels), nodes.dim + (nodes.bias > 0)
        self.y = labels.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        self.x = address.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(feature_node)))
        self.bias = nodes.bias if nodes.bias > 0 else -1.0


def _on_solvers(work: Callable[[ctypes.CDLL], None], count: int) -> None:
    """Call `work(library)` on as many threads as asked for, as far as there are copies."""
    with LOADING:
        solvers = [_solver(place) for place in range(max(1, min(count, MOST_COPIES)))]
    running = [thread.submit(work, library) for thread, library in filter(None, solvers)]
    for each in running:
        each.result()


@cache
def _solver(place: int) -> tuple[ThreadPoolExecutor, ctypes.CDLL] | None:
    """Return a thread and the copy of liblinear that it loaded; None: there can be no more."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"liblinear-{place}")
    library = thread.submit(_load, place > 0).result()
    return None if library is None else (thread, library)


def _load(one_more: bool) -> ctypes.CDLL | None:
    """Load liblinear with a C library of its own; the first one, if need be, without."""
    path = shared_library._name
    open_apart: Any = getattr(ctypes.CDLL(None), "dlmopen", None)  # glibc's; not musl's or macOS's
    handle = None
    if open_apart is not None:
        open_apart.restype = ctypes.c_void_p
        new_namespace = ctypes.c_long(-1)
        handle = open_apart(new_namespace, os.fsencode(path), ctypes.c_int(os.RTLD_NOW))
    if handle is None and one_more:
        return None
    library = ctypes.CDLL(path, handle=handle)
    library.train.restype = ctypes.POINTER(model)
    return library
