"""One-vs-rest linear SVMs on L2-normalised vectors of whole images (SPEC §5, §10)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int8

from pipeline.config import Classification
from pipeline.errors import InputError
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.svm import fit_svms, needed_bytes

SOLVER = "dense"  # all classes share all rows, which it goes through once for all of them
TOLERANCE = 1e-4


def fit_images(
    vectors: Float[np.ndarray, "images dim"],
    labels: Int8[np.ndarray, "images classes"],
    classes: Sequence[str],
    settings: Classification,
    made_from: Mapping[str, Any],
    threads: int = 1,
) -> Classifiers:
    """Fit a classifier of each class against all other images.

    Args:
        vectors: unnormalised, as they are stored.
        labels: 1 shown, -1 not, 0 hardly to be told: such an image is left out for that class.
        classes: their names.
        settings: the recipe's `[classification]`.
        made_from: what made the vectors.
        threads: on how many to fit; changes no bit.

    Raises:
        InputError: a class has no image, or all of them; or it would take too much memory.
    """
    _require_both(labels, classes)
    require_memory(len(vectors), vectors.shape[1], len(classes), settings)
    fits = fit_svms(
        normalised(vectors),
        labels,
        settings.C,
        settings.positive_weight,
        settings.bias,
        TOLERANCE,
        solver=SOLVER,
        threads=threads,
    )
    counts = zip(classes, (labels > 0).sum(axis=0), (labels < 0).sum(axis=0), fits, strict=True)
    told = [
        {"class": name, "positives": int(shown), "negatives": int(other)}
        | {"objective": fit.svm.objective}
        for name, shown, other, fit in counts
    ]
    return Classifiers(
        tuple(classes),
        np.stack([fit.svm.weights for fit in fits]).astype(np.float32),
        np.array([fit.svm.intercept for fit in fits], np.float32),
        scale=1.0,
        unit=True,
        made_from=dict(made_from),
        training={"svm": settings.model_dump(mode="json"), "classes": told},
    )


def normalised(vectors: Float[np.ndarray, "images dim"]) -> Float32[np.ndarray, "images dim"]:
    """Return vectors of length 1; of a vector of zeros, itself."""
    wide = vectors.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide, dtype=np.float64))
    wide /= np.where(lengths > 0, lengths, 1)[:, None].astype(np.float32)
    return wide


def _require_both(labels: Int8[np.ndarray, "images classes"], classes: Sequence[str]) -> None:
    shown, other = (labels > 0).sum(axis=0), (labels < 0).sum(axis=0)
    for name, positives, negatives in zip(classes, shown.tolist(), other.tolist(), strict=True):
        if not positives or not negatives:
            raise InputError(
                f"class {name}: {positives} training images show it and {negatives} do not, and a "
                "classifier needs both: add images, or leave it out of dataset.classes"
            )


def require_memory(
    images: int, dim: int, classes: int, settings: Classification, stored: int = 0
) -> None:
    """Refuse to fit so many images, before any is read.

    Args:
        images: that are learnt from.
        dim: length of a vector.
        classes: that are fitted.
        settings: the recipe's `[classification]`.
        stored: bytes of vectors, as they are stored, that lie beside them in memory.

    Raises:
        InputError: it would take more than `settings.memory_bytes`.
    """
    taken = stored + images * dim * 4 + needed_bytes(images, images * dim, dim, SOLVER, classes)
    if taken > settings.memory_bytes:
        raise InputError(
            f"fitting {classes} classes on {images:,} vectors of {dim:,} numbers takes "
            f"{taken:,} bytes, and classification.memory_bytes allows "
            f"{settings.memory_bytes:,}: raise it, or choose a layer or a pyramid with "
            "shorter vectors"
        )
