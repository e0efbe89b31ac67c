"""A set of per-class box regressors: fitted from a store, kept as data, applied to detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from pydantic import Field
from safetensors.numpy import save

from pipeline import config
from pipeline.boxes import clip, decode
from pipeline.errors import InputError
from pipeline.learning.box_pairs import RegressionSpec, read_pairs
from pipeline.learning.box_regression import fit_bytes, fit_rows
from pipeline.learning.classifiers import require_same_vectors
from pipeline.learning.learnt import read_arrays, read_description
from pipeline.store import Vectors, blocks
from pipeline.store.blocks import Block
from pipeline.store.files import write_json, written_aside
from pipeline.store.rows import COPIED_BYTES, is_mapped

WEIGHTS, DESCRIPTION = "regressors.safetensors", "regressors.json"


@dataclass(frozen=True)
class RegressionStats:
    """How one class was fitted."""

    pairs: int
    error_before: float
    """Root of the mean square of the moves that it learnt from, in the targets' units."""
    error_after: float
    """Of what is left of them."""


@dataclass(frozen=True)
class BoxRegressors:
    """`move[k] = weights[k] · (scale * vector) + biases[k]`; a class of no pairs moves nothing."""

    classes: tuple[str, ...]
    weights: Float32[np.ndarray, "classes 4 dim"]
    biases: Float32[np.ndarray, "classes 4"]
    scale: float
    """20 / mean L2 norm of the training vectors (SPEC §8)."""
    made_from: dict[str, Any] = field(default_factory=dict)
    """What made the vectors, as in `Classifiers`."""

    def check_fits(self, made_from: Mapping[str, Any], where: object) -> None:
        """Refuse vectors that another network or other settings made.

        Raises:
            InputError: names the first field that differs, and both values.
        """
        require_same_vectors("box regressors", self.made_from, made_from, where)

    def save(self, folder: Path) -> None:
        """Write `regressors.safetensors` and `regressors.json`; equal sets give equal bytes."""
        with written_aside(folder / WEIGHTS) as aside:
            aside.write_bytes(save({"weights": self.weights, "biases": self.biases}))
        known = {"classes": self.classes, "scale": self.scale, "made_from": self.made_from}
        write_json(folder / DESCRIPTION, known)

    def mover(self) -> "Mover":
        """Return what moves many windows, with the weights made ready once."""
        return Mover(self)


class Mover:
    """Moves windows by their vectors, where these lie.

    Where a window goes depends on itself alone, to the bit.
    """

    def __init__(self, known: BoxRegressors) -> None:
        self._weights = [blocks.weights(each * known.scale) for each in known.weights]
        self._biases = known.biases.astype(np.float64)

    def __call__(
        self,
        windows: Float[np.ndarray, "found 4"],
        classes: Int[np.ndarray, " found"],
        vectors: Block,
        image_size: Sequence[int | float],
    ) -> Float[np.ndarray, "found 4"]:
        """Return the windows moved, each as its class has learnt, and cut to the image.

        One that would leave the image altogether stays where it is.

        Args:
            windows: of one image.
            classes: of each.
            vectors: of each.
            image_size: `(width, height)`.

        Raises:
            InputError: the vectors are of another length than the regressors were fitted to.
        """
        moves = np.zeros((len(windows), 4))
        for k in np.unique(classes):
            own = np.flatnonzero(classes == k)
            moves[own] = vectors[own].multiply(self._weights[k]) + self._biases[k]
        # A window never is e¹⁰ times too small: more would be no number in the end.
        moves[:, 2:] = np.minimum(moves[:, 2:], 10.0)
        moved = clip(decode(windows, moves), *image_size)
        gone = (moved[:, 2:] <= moved[:, :2]).any(axis=1, keepdims=True)
        return np.where(gone, clip(windows, *image_size), moved)


def fit_class(
    spec: RegressionSpec, pairs: Path, scale: float, folder: Path, k: int
) -> RegressionStats:
    """Fit one class to its pairs of all shards and write its part of the set into `folder`.

    Vectors are read where they lie; what is in memory is a matrix of the smaller of features and
    windows squared (see `fit_bytes`).

    Raises:
        InputError: it would take more than `spec.settings.memory_bytes`.
    """
    vectors = Vectors(spec.store)
    length, known = vectors.spec.length, read_pairs(pairs, spec, k, vectors.first)
    weights, biases = np.zeros((4, length), np.float32), np.zeros(4, np.float32)
    before, after = known.moves, known.moves
    if len(known.rows):
        _require_memory(spec, k, len(known.rows))
        fitted = fit_rows(
            lambda part: vectors.take(known.rows[part]),
            length,
            known.moves,
            spec.settings.ridge,
            scale,
        )
        weights, biases = fitted.weights.T.astype(np.float32), fitted.bias.astype(np.float32)
        after = before - _predicted(vectors, known.rows, weights, biases, scale)
    with written_aside(_part(folder, k)) as aside:
        aside.write_bytes(save({"weights": np.ascontiguousarray(weights), "biases": biases}))
    return RegressionStats(len(known.rows), _rms(before), _rms(after))


def assemble(spec: RegressionSpec, folder: Path, scale: float) -> BoxRegressors:
    """Return the set of what `fit_class` wrote."""
    parts = [read_arrays(_part(folder, k), ("weights", "biases")) for k in range(len(spec.classes))]
    weights, biases = (np.stack(each) for each in zip(*parts, strict=True))
    return BoxRegressors(spec.classes, weights, biases, scale, spec.store.made_from)


def load(folder: Path) -> BoxRegressors:
    """Read what `BoxRegressors.save` wrote. Data only: nothing in it is executed.

    Raises:
        InputError: the files are absent, damaged, or do not belong together.
    """
    known = read_description(folder / DESCRIPTION, _Described, "box regressors")
    classes = known.classes
    weights, biases = read_arrays(folder / WEIGHTS, ("weights", "biases"))
    if (
        weights.ndim != 3
        or weights.shape[:2] != (len(classes), 4)
        or biases.shape != (len(classes), 4)
    ):
        raise InputError(
            f"{folder / WEIGHTS} has weights {list(weights.shape)} and biases "
            f"{list(biases.shape)} for {len(classes)} classes; run the job again"
        )
    return BoxRegressors(classes, weights, biases, known.scale, dict(known.made_from))


class _Described(config.Section):
    """What `regressors.json` says."""

    classes: tuple[str, ...]
    scale: float = Field(gt=0)
    made_from: dict[str, Any]


def _require_memory(spec: RegressionSpec, k: int, windows: int) -> None:
    vector = spec.store.spec
    length, itemsize = vector.length, vector.row_bytes // vector.length
    # Row groups that cannot be read where they lie are kept for a while.
    needed = fit_bytes(windows, length, itemsize) + COPIED_BYTES * (not is_mapped(spec.store))
    if needed > spec.settings.memory_bytes:
        raise InputError(
            f"box regression of class {spec.classes[k]!r}: {windows:,} windows of {length:,} "
            f"numbers take {needed / 1e9:.2g} GB, more than regression.memory_bytes = "
            f"{spec.settings.memory_bytes / 1e9:.2g} GB: raise it, or raise regression.min_iou"
        )


def _predicted(
    vectors: Vectors,
    rows: Int[np.ndarray, " pairs"],
    weights: Float32[np.ndarray, "4 dim"],
    biases: Float32[np.ndarray, " 4"],
    scale: float,
) -> Float[np.ndarray, "pairs 4"]:
    ready, out = blocks.weights(weights * np.float32(scale)), np.empty((len(rows), 4))
    for places, block in vectors.parts(rows):
        out[places] = block.multiply(ready)
    return out + biases


def _rms(moves: Float[np.ndarray, "pairs 4"]) -> float:
    return float(np.sqrt((moves**2).mean())) if len(moves) else 0.0


def _part(folder: Path, k: int) -> Path:
    return folder / f"{k}.safetensors"
