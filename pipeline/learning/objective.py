"""What is minimised for a class (SPEC §6), and what fitting it returns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike


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


@dataclass(frozen=True)
class Fit:
    """A fitted class, and where a later fit of nearly the same rows may begin."""

    svm: LinearSVM
    dual: Float64[np.ndarray, " rows"] | None
    """Of each row of the pool, 0 for one outside the class; None: liblinear keeps its own."""
    passes: int
    """Times that the solver went through its active rows."""


@dataclass(frozen=True)
class Objective:
    """The constants of SPEC §6, and how near to its minimum a solver goes."""

    C: float
    positive_weight: float
    bias: float
    tolerance: float
    scale: float

    @property
    def limits(self) -> tuple[float, float]:
        """Upper bounds of the duals of a negative and of a positive."""
        return self.C, self.C * self.positive_weight

    def svm(self, weights: Float64[np.ndarray, " dim"], last: float, hinge: float) -> LinearSVM:
        """Return the solution, given the weight of the bias feature and the weighted hinge sum."""
        objective = 0.5 * (weights @ weights + last**2) + hinge
        return LinearSVM(weights, last * self.bias, float(objective))
