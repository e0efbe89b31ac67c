"""A dense solver of our own for many classes over the same rows: dual coordinate descent.

The same problem as liblinear's `-s 3`, by the same method (Hsieh et al. 2008, algorithms 1 and 3):
a row's dual variable is set to its optimum given the others, rows at a limit are left out until all
others have converged, and the end is where no projected gradient exceeds the tolerance. What
differs is the order of work. A row is read once for all classes, and a class's weights stay in the
cache; and a dense row of SIMD lanes costs less than a quarter of it gathered by index.

Steps are made in float32, a judge in float64 tells whether the end was reached, and where it was
not, float64 goes on from there. Rows are visited in an order hashed from what they hold: a class
gets the same steps in any pool, in any group of classes, on any number of threads. Its last digits
may differ between processors, whose lanes sum in another order.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int8, UInt64

from pipeline.learning.kernels import Rows, descend, judge, measure, primal
from pipeline.learning.objective import Fit, Objective

GROUP_BYTES = 1 << 20  # weights of the classes that go together: half a second-level cache
SINGLE_TOLERANCE = 1e-5  # below it float32's rounding of a score would hide the end
SINGLE_SQUARE = 1e30  # of a row's norm, and above it float32's range would not do
SINGLE_PASSES, MOST_PASSES = 2_000, 50_000
# Late passes see few rows: a quarter of the tolerance costs 0 to 30% more, and the objective then
# came out at or below liblinear's on all data tried, instead of up to 0.3% above it.
STRICTER = 4.0
Weights = Any  # `[classes dim]` float32 or float64, and of the bias feature `[classes]`


def fit(
    rows: Rows,
    Y: Int8[np.ndarray, "rows classes"],
    objective: Objective,
    start: Float64[np.ndarray, "rows classes"] | None,
    threads: int,
) -> list[Fit]:
    """Fit each class on its rows, from `start` if given.

    Args:
        rows: `[rows dim]` as `kernels.as_rows` gives them.
        Y: 1, -1, or 0 where a row is not in that class's problem.
        objective: its constants.
        start: duals to begin from, cut to what the constants allow.
        threads: among which groups of classes are shared out.

    Raises:
        ValueError: a number in use is not finite.

    Warns:
        RuntimeWarning: a class is still outside the tolerance after `MOST_PASSES`.
    """
    classes, dim = Y.shape[1], rows.shape[1]
    used = np.flatnonzero((Y != 0).any(axis=1))
    squares, sides = np.zeros((2, len(rows)))
    measure(rows, used, np.random.default_rng(0).standard_normal(dim), squares, sides)
    if not np.isfinite(squares).all():
        raise ValueError("a vector holds a number that is not finite; an SVM cannot learn from it")
    size = max(1, min(-(-classes // threads), max(4, GROUP_BYTES // (4 * max(dim, 1)))))

    def group(first: int) -> list[Fit]:
        part = slice(first, first + size)
        labels = np.ascontiguousarray(Y[:, part])
        began = None if start is None else start[:, part]
        return _Group(rows, squares, sides.view(np.uint64), labels, objective, first).fit(began)

    with ThreadPoolExecutor(threads) as pool:
        return [fit for fits in pool.map(group, range(0, classes, size)) for fit in fits]


class _Group:
    """Some classes, whose duals one thread finds."""

    def __init__(
        self,
        rows: Rows,
        squares: Float64[np.ndarray, " rows"],
        keys: UInt64[np.ndarray, " rows"],
        labels: Int8[np.ndarray, "rows classes"],
        objective: Objective,
        first: int,
    ) -> None:
        self.rows, self.squares, self.keys, self.labels = rows, squares, keys, labels
        self.objective, self.first = objective, first
        self.constants = (np.array(objective.limits), objective.scale, max(objective.bias, 0.0))

    def fit(self, start: Float64[np.ndarray, "rows classes"] | None) -> list[Fit]:
        """Descend, judge, and where that was not the end descend in float64."""
        classes, dim = self.labels.shape[1], self.rows.shape[1]
        lower, upper = self.objective.limits
        limits = np.where(self.labels > 0, upper, lower) * (self.labels != 0)
        self.alpha = np.zeros(limits.shape) if start is None else np.clip(start, 0.0, limits)
        self.passes = np.zeros(classes, dtype=np.int64)
        todo = np.ones(classes, dtype=bool)
        strict = self.objective.tolerance / STRICTER
        if strict >= SINGLE_TOLERANCE and self.squares.max() < SINGLE_SQUARE:
            single = np.empty((classes, dim), np.float32)
            todo = self._descend(*self._primal(single), todo, SINGLE_PASSES)
        weights, last = self._primal(np.empty((classes, dim)))
        hinge, far = self._judge(weights, last)
        todo |= far
        if todo.any():
            todo = self._descend(weights, last, todo, MOST_PASSES)
            weights, last = self._primal(weights)
            hinge, far = self._judge(weights, last)
            todo &= far
        for k in np.flatnonzero(todo):
            warnings.warn(
                f"class {self.first + k} of the pool is not within the tolerance "
                f"{self.objective.tolerance} after {self.passes[k]:,} passes: raise it, or lower C",
                RuntimeWarning,
                stacklevel=2,
            )
        return [
            Fit(
                self.objective.svm(weights[k].copy(), float(last[k]), float(hinge[k])),
                self.alpha[:, k].copy(),
                int(self.passes[k]),
            )
            for k in range(classes)
        ]

    def _descend(
        self, weights: Weights, last: Weights, todo: Bool[np.ndarray, " classes"], most: int
    ) -> Bool[np.ndarray, " classes"]:
        """Go through the rows until each class to do has converged, and return which have not."""
        tolerance = self.objective.tolerance / STRICTER
        members = self.labels != 0
        active, whole, todo = members & todo, todo.copy(), todo.copy()
        bounds = _open(len(todo))
        for number in range(1, most + 1):
            seen = -_open(len(todo))
            order = self._order(active, number)
            descend(
                self.rows, order, self.squares, self.labels, *self.constants,
                self.alpha, active, weights, last, bounds, seen,
            )  # fmt: skip
            self.passes[todo] += 1
            within = _is_within(seen, tolerance)
            done = todo & within & whole
            todo &= ~done
            if not todo.any():
                break
            again = within & todo  # on what was left active: now look at all rows
            active[:, done] = False
            active[:, again] = members[:, again]
            whole = again
            bounds = np.where(seen * [[1], [-1]] > 0, seen, _open(len(todo)))
            bounds[:, again] = _open(1)
        return todo

    def _order(
        self, active: Bool[np.ndarray, "rows classes"], number: int
    ) -> Int[np.ndarray, " visited"]:
        """Return the rows that some class visits, in the order of a hash that each pass changes."""
        visited = np.flatnonzero(active.any(axis=1))
        key = self.keys[visited] + np.uint64(number * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
            key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
        return visited[np.argsort(key ^ (key >> np.uint64(31)), kind="stable")]

    def _primal(self, weights: Weights) -> tuple[Weights, Weights]:
        """Fill in the weights that the duals stand for; and return those of the bias feature."""
        last = np.zeros(len(weights))
        _, scale, bias = self.constants
        primal(self.rows, self.alpha * self.labels, scale, bias, weights, last)
        return weights, last

    def _judge(
        self, weights: Weights, last: Weights
    ) -> tuple[Float64[np.ndarray, " classes"], Bool[np.ndarray, " classes"]]:
        """Return the weighted hinge sums, and which classes are far from converged."""
        hinge, seen = np.zeros(len(last)), -_open(len(last))
        visited = np.flatnonzero((self.labels != 0).any(axis=1))
        judge(
            self.rows, visited, self.labels, *self.constants,
            self.alpha, weights, last, hinge, seen,
        )  # fmt: skip
        return hinge, ~_is_within(seen, self.objective.tolerance)


def _open(classes: int) -> Float64[np.ndarray, "2 classes"]:
    """Bounds that no gradient exceeds: the highest and the lowest of each class."""
    return np.outer([np.inf, -np.inf], np.ones(classes))


def _is_within(
    seen: Float64[np.ndarray, "2 classes"], tolerance: float
) -> Bool[np.ndarray, " classes"]:
    """Tell whose highest and lowest gradient are as near to zero, and to each other."""
    highest, lowest = seen  # of a class that had no row to visit: -inf and inf
    return (highest <= tolerance) & (lowest >= -tolerance) & (highest - lowest <= tolerance)
