"""Bounding-box regression: ridge from features to a window's offset from its object (SPEC §8)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from pipeline.errors import InputError

WHITENING_FLOOR = 0.001  # R-CNN's: keeps a target that hardly varies from being blown up
BLOCK = 4096  # rows or features converted to float64 at a time


@dataclass(frozen=True)
class BoxRegressor:
    """An affine map from features to targets, such as ``pipeline.boxes.encode`` makes.

    Attributes:
        weights: in the targets' own units: centring and whitening are undone.
        bias: the same.
    """

    weights: Float[np.ndarray, "features targets"]
    bias: Float[np.ndarray, " targets"]

    def predict(self, X: ArrayLike) -> Float[np.ndarray, "windows targets"]:
        """Predict targets for features ``[windows features]``.

        Raises:
            InputError: another number of features than it was fitted with.
        """
        features = np.asarray(X)
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise InputError(
                f"features have shape {features.shape}; the regressor was fitted with "
                f"{len(self.weights)} features, so give (windows, {len(self.weights)})"
            )
        return features @ self.weights + self.bias


def fit_box_regressor(X: ArrayLike, Y: ArrayLike, ridge: float | int = 1000) -> BoxRegressor:
    """Fit by ridge regression, exactly.

    Targets are centred and whitened by ``V diag(1/√(D + 0.001)) Vᵀ`` of their covariance; a
    constant feature 1 is appended whose weight is penalised like any other. Minimises
    ``|X̃W − Ỹ|² + ridge |W|²`` through the smaller of the two systems, features × features or
    windows × windows. Memory: that matrix in float64, and blocks of ``X``.

    Args:
        X: ``[windows features]``, already scaled (SPEC §8: mean norm 20).
        Y: ``[windows targets]``.
        ridge: λ, ≥ 0: 1000 in the R-CNN paper, 4000 in its released code.

    Raises:
        InputError: no windows, different numbers of them, values that are not finite, a negative
            λ, or λ so small that the system is singular.

    Source:
        Girshick et al., R-CNN, appendix C; SPEC §8.

    Examples:
        >>> fit_box_regressor([[1.0], [-1.0]], [[3.0], [-3.0]], ridge=1.0).predict([[2.0]])
        array([[4.]])
    """
    features, targets = np.asarray(X), np.asarray(Y, dtype=np.float64)
    _check(features, targets, float(ridge))
    mean = targets.mean(axis=0)
    whiten, unwhiten = _whitening(targets - mean)
    smaller_is_primal = features.shape[1] + 1 <= len(features)
    solve = _solve_primal if smaller_is_primal else _solve_dual
    try:
        solution = solve(features, (targets - mean) @ whiten, float(ridge))
    except LinAlgError as error:
        raise InputError(
            f"ridge {ridge} leaves the regression of {features.shape[0]} windows on "
            f"{features.shape[1]} features singular; raise it"
        ) from error
    own_units = solution @ unwhiten
    return BoxRegressor(weights=own_units[:-1], bias=own_units[-1] + mean)


def _check(features: np.ndarray, targets: np.ndarray, ridge: float) -> None:
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        raise InputError(
            f"features have shape {features.shape} and targets {targets.shape}; give "
            "(windows, features) and (windows, targets)"
        )
    if not len(features):
        raise InputError("no windows to fit a box regressor to; skip the class or lower its IoU")
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise InputError("features or targets are not finite; drop those windows")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise InputError(f"ridge is {ridge}; give a number ≥ 0, such as 1000")


def _whitening(
    centred: Float[np.ndarray, "windows targets"],
) -> tuple[Float[np.ndarray, "targets targets"], Float[np.ndarray, "targets targets"]]:
    """The symmetric square root of the inverse covariance, and its inverse."""
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    scales = np.sqrt(np.maximum(variances, 0) + WHITENING_FLOOR)
    return (axes / scales) @ axes.T, (axes * scales) @ axes.T


def _with_ones(rows: np.ndarray) -> Float[np.ndarray, "rows features_and_one"]:
    return np.hstack([rows.astype(np.float64), np.ones((len(rows), 1))])


def _solve_primal(
    features: np.ndarray, targets: Float[np.ndarray, "windows targets"], ridge: float
) -> Float[np.ndarray, "features_and_one targets"]:
    """``(X̃ᵀX̃ + λI)⁻¹ X̃ᵀỸ``, X̃ taken in blocks of windows."""
    size = features.shape[1] + 1
    gram, products = np.zeros((size, size)), np.zeros((size, targets.shape[1]))
    for start in range(0, len(features), BLOCK):
        block = _with_ones(features[start : start + BLOCK])
        gram += block.T @ block
        products += block.T @ targets[start : start + BLOCK]
    return _solve(gram, products, ridge)


def _solve_dual(
    features: np.ndarray, targets: Float[np.ndarray, "windows targets"], ridge: float
) -> Float[np.ndarray, "features_and_one targets"]:
    """``X̃ᵀ (X̃X̃ᵀ + λI)⁻¹ Ỹ``, X̃ taken in blocks of features."""
    starts = range(0, features.shape[1], BLOCK)
    gram = np.ones((len(features), len(features)))  # what the appended 1 adds
    for start in starts:
        block = features[:, start : start + BLOCK].astype(np.float64)
        gram += block @ block.T
    dual = _solve(gram, targets, ridge)
    parts = [features[:, start : start + BLOCK].T.astype(np.float64) @ dual for start in starts]
    return np.concatenate([*parts, dual.sum(axis=0, keepdims=True)])


def _solve(gram: np.ndarray, right: np.ndarray, ridge: float) -> np.ndarray:
    gram[np.diag_indices_from(gram)] += ridge
    return cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), right)
