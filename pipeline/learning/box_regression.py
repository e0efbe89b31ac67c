"""Bounding-box regression: ridge from features to a window's offset from its object (SPEC §8)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor, cho_solve, get_blas_funcs
from threadpoolctl import threadpool_limits

from pipeline.errors import InputError

WHITENING_FLOOR = 0.001  # R-CNN's: keeps a target that hardly varies from being blown up
_syrk: Any = get_blas_funcs("syrk", dtype=np.float64)  # adds a·aᵀ to half of a matrix, in place
BLOCK = 1024  # rows or features converted to float64 at a time

Rows = Callable[[slice], Float[np.ndarray, "rows features"]]
"""Gives some windows' features, as they are stored: all of them need not be in memory."""


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
    _check(features, targets)
    return fit_rows(lambda part: features[part], features.shape[1], targets, ridge)


def fit_rows(
    rows: Rows,
    length: int,
    targets: Float[np.ndarray, "windows targets"],
    ridge: float | int,
    scale: float = 1.0,
) -> BoxRegressor:
    """Fit as `fit_box_regressor`, to windows whose features are fetched block by block.

    On one thread: sums in another order round differently.

    Args:
        rows: of the windows; asked for in order, or for all at once where that is less memory.
        length: of the features.
        targets: of the windows.
        ridge: as in `fit_box_regressor`.
        scale: features are multiplied by it.

    Raises:
        InputError: as `fit_box_regressor`.
    """
    _check_targets(targets, float(ridge))
    mean = targets.mean(axis=0)
    whiten, unwhiten = _whitening(targets - mean)
    solve = _solve_primal if is_primal(len(targets), length) else _solve_dual
    try:
        with threadpool_limits(1):
            solution = solve(rows, length, (targets - mean) @ whiten, float(ridge), scale)
    except LinAlgError as error:
        raise InputError(
            f"ridge {ridge} leaves the regression of {len(targets)} windows on {length} features "
            "singular; raise it"
        ) from error
    own_units = solution @ unwhiten
    return BoxRegressor(weights=own_units[:-1], bias=own_units[-1] + mean)


def is_primal(windows: int, length: int) -> bool:
    """Return whether the system of features is the smaller one, or that of windows."""
    return length + 1 <= windows


def fit_bytes(windows: int, length: int, itemsize: int) -> int:
    """Return the memory that `fit_rows` takes for so many windows, at most.

    Args:
        windows: to fit to.
        length: of the features.
        itemsize: bytes of a stored number.
    """
    small = 128 * windows  # targets, whitened and not
    # A block is held as it was fetched, in float64, in the matrix it goes into, and as flags.
    if is_primal(windows, length):
        return small + 8 * (length + 1) ** 2 + BLOCK * length * (itemsize + 17)
    return small + 8 * windows**2 + windows * (length * itemsize + BLOCK * 17) + 64 * length


def _check(features: np.ndarray, targets: np.ndarray) -> None:
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        raise InputError(
            f"features have shape {features.shape} and targets {targets.shape}; give "
            "(windows, features) and (windows, targets)"
        )


def _check_targets(targets: Float[np.ndarray, "windows targets"], ridge: float) -> None:
    if not len(targets):
        raise InputError("no windows to fit a box regressor to; skip the class or lower its IoU")
    if not np.isfinite(targets).all():
        raise InputError("targets are not finite; drop those windows")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise InputError(f"ridge is {ridge}; give a number ≥ 0, such as 1000")


def _whitening(
    centred: Float[np.ndarray, "windows targets"],
) -> tuple[Float[np.ndarray, "targets targets"], Float[np.ndarray, "targets targets"]]:
    """The symmetric square root of the inverse covariance, and its inverse."""
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    scales = np.sqrt(np.maximum(variances, 0) + WHITENING_FLOOR)
    return (axes / scales) @ axes.T, (axes * scales) @ axes.T


def _wide(features: np.ndarray, scale: float) -> Float[np.ndarray, "rows features"]:
    wide = features.astype(np.float64)
    wide *= scale
    if not np.isfinite(wide).all():
        raise InputError("features are not finite; drop those windows")
    return wide


def _solve_primal(
    rows: Rows,
    length: int,
    targets: Float[np.ndarray, "windows targets"],
    ridge: float,
    scale: float = 1.0,
) -> Float[np.ndarray, "features_and_one targets"]:
    """``(X̃ᵀX̃ + λI)⁻¹ X̃ᵀỸ``, X̃ taken in blocks of windows."""
    gram = np.zeros((length + 1, length + 1), order="F")
    products = np.zeros((length + 1, targets.shape[1]))
    block = np.ones((min(BLOCK, len(targets)), length + 1))  # with the appended 1
    for start in range(0, len(targets), BLOCK):
        part = slice(start, min(start + BLOCK, len(targets)))
        block = block[: part.stop - start]
        block[:, :length] = _wide(rows(part), scale)
        gram = _syrk(1.0, block.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
        products += block.T @ targets[part]
    return _solve(gram, products, ridge)


def _solve_dual(
    rows: Rows,
    length: int,
    targets: Float[np.ndarray, "windows targets"],
    ridge: float,
    scale: float = 1.0,
) -> Float[np.ndarray, "features_and_one targets"]:
    """``X̃ᵀ (X̃X̃ᵀ + λI)⁻¹ Ỹ``, X̃ taken in blocks of features."""
    features = rows(slice(0, len(targets)))
    parts = [slice(start, start + BLOCK) for start in range(0, length, BLOCK)]
    gram = np.ones((len(features), len(features)), order="F")  # what the appended 1 adds
    for part in parts:
        turned = _wide(features[:, part], scale).T
        gram = _syrk(1.0, turned, beta=1.0, c=gram, trans=1, lower=1, overwrite_c=1)
    dual = _solve(gram, targets, ridge)
    weights = [_wide(features[:, part], scale).T @ dual for part in parts]
    return np.concatenate([*weights, dual.sum(axis=0, keepdims=True)])


def _solve(gram: np.ndarray, right: np.ndarray, ridge: float) -> np.ndarray:
    """Solve with the lower half of a symmetric matrix, which is factored where it is."""
    gram[np.diag_indices_from(gram)] += ridge
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    return cho_solve(factor, right)
