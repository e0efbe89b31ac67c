"""Linear SVMs with L2-regularised L1 hinge loss, one class or many over the same rows (SPEC §6)."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int8
from numpy.typing import ArrayLike
from scipy import sparse

from pipeline.learning import dual, liblinear
from pipeline.learning.kernels import as_rows
from pipeline.learning.nodes import NODE, DenseOrSparse
from pipeline.learning.objective import Fit, LinearSVM, Objective
from pipeline.threads import usual as usual_threads

__all__ = ["Fit", "LinearSVM", "fit_svm", "fit_svms", "needed_bytes"]

Solver = Literal["liblinear", "dense"]
Vectors = ArrayLike | sparse.spmatrix | sparse.sparray


def fit_svm(
    X: Vectors,
    y: ArrayLike,
    C: int | float = 0.001,
    positive_weight: int | float = 2.0,
    bias: int | float = 10.0,
    tolerance: float = 1e-4,
    scale: int | float = 1.0,
    solver: Solver = "liblinear",
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
        solver: see `fit_svms`.

    Raises:
        ValueError: rows and labels differ in number, a class has no example, or a number is not
            finite.

    Source: R-CNN's and SPP-net's `-s 3 -c 0.001 -w1 2 -B 10`.
    """
    rows = _rows(X)
    Y = np.where(np.asarray(y).reshape(-1) > 0, 1, -1).astype(np.int8)[:, None]
    _require_shape(rows, Y)
    _require_both(Y, [""])
    objective = _objective(C, positive_weight, bias, tolerance, scale)
    return _fit(rows, Y, objective, solver, None, 1)[0].svm


def fit_svms(
    X: Vectors,
    Y: Int8[np.ndarray, "rows classes"],
    C: int | float = 0.001,
    positive_weight: int | float = 2.0,
    bias: int | float = 10.0,
    tolerance: float = 1e-4,
    scale: int | float = 1.0,
    solver: Solver = "liblinear",
    start: Float64[np.ndarray, "duals classes_of_duals"] | None = None,
    threads: int | None = None,
) -> list[Fit]:
    """Fit many classes that share one pool of rows; each comes out as if fitted on its own.

    Args:
        X: `[rows dim]`, as for `fit_svm`; not copied if contiguous and of a float dtype.
        Y: 1 and -1, and 0 where the row is not in that class's problem.
        C: as for `fit_svm`, and so are `positive_weight`, `bias`, `tolerance` and `scale`.
        positive_weight: see there.
        bias: see there.
        tolerance: see there.
        scale: see there.
        solver: `liblinear`, the judge, whose rows are built once for all classes; or `dense`, our
            own descent on the same objective to the same tolerance, which goes through the rows
            once for all classes and can begin from `start`.
        start: duals that an earlier fit returned, moved to the rows of this pool, 0 for new rows;
            those of rows that a class has no longer in use do not count.
            Changes how many passes are needed. liblinear has no way to take them and ignores them.
        threads: on how many to fit classes; none: see `threads.usual`. Changes no bit.

    Raises:
        ValueError: the shapes differ, a class lacks positives or negatives, or a number in a row
            that some class uses is not finite.
    """
    rows = _rows(X)
    _require_shape(rows, Y)
    if start is not None and start.shape != Y.shape:
        raise ValueError(f"duals have shape {list(start.shape)}, labels {list(Y.shape)}")
    _require_both(Y, [f"class {k} of the pool: " for k in range(Y.shape[1])])
    objective = _objective(C, positive_weight, bias, tolerance, scale)
    return _fit(rows, Y, objective, solver, start, threads or usual_threads())


def needed_bytes(
    rows: int,
    nonzeros: int,
    dim: int,
    solver: Solver = "liblinear",
    classes: int = 1,
    threads: int | None = None,
) -> int:
    """Return the most memory that a fit takes beside the vectors and labels it is given.

    Not in it: where liblinear gives up, for C is far above the paper's, scikit-learn goes on, with
    one class at a time, and about 60 bytes more for each number that is not zero.

    Args:
        rows: of the pool, in use by some class.
        nonzeros: numbers in those rows that are not zero.
        dim: length of a row.
        solver: as for `fit_svms`.
        classes: fitted together.
        threads: as for `fit_svms`.
    """
    if solver == "dense":  # duals twice, labels, which are active; weights in both widths
        return rows * (classes * 34 + 64) + classes * dim * 20
    # Nodes with bias and mark. Each class under way: pointers, labels, and liblinear's own.
    at_once = min(classes, threads or usual_threads(), liblinear.MOST_COPIES)
    shared = NODE.itemsize * (nonzeros + 2 * rows) + 40 * rows
    return shared + at_once * (100 * rows + 16 * dim) + classes * dim * 8


def _fit(
    rows: DenseOrSparse,
    Y: Int8[np.ndarray, "rows classes"],
    objective: Objective,
    solver: Solver,
    start: Float64[np.ndarray, "rows classes"] | None,
    threads: int,
) -> list[Fit]:
    if solver == "liblinear":
        return liblinear.fit(rows, Y, objective, threads)
    if solver == "dense":
        dense = as_rows(rows.toarray()) if sparse.issparse(rows) else rows
        return dual.fit(dense, Y, objective, start, threads)
    raise ValueError(f'no solver "{solver}"; there are "liblinear" and "dense"')


def _objective(*constants: int | float) -> Objective:
    return Objective(*map(float, constants))


def _rows(X: Any) -> DenseOrSparse:
    return sparse.csr_array(X) if sparse.issparse(X) else as_rows(np.asarray(X))


def _require_shape(rows: DenseOrSparse, Y: Int8[np.ndarray, "labels classes"]) -> None:
    if rows.ndim != 2 or rows.shape[0] != len(Y):
        raise ValueError(f"vectors have shape {list(rows.shape)}, but there are {len(Y)} labels")


def _require_both(Y: Int8[np.ndarray, "rows classes"], names: list[str]) -> None:
    positives, negatives = (Y > 0).sum(axis=0), (Y < 0).sum(axis=0)
    for name, positive, negative in zip(names, positives, negatives, strict=True):
        if not positive or not negative:
            raise ValueError(
                f"{name}{positive} positives and {negative} negatives; an SVM needs both"
            )
