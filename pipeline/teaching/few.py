"""Training by a few examples, where most objects of the class are there and nobody has marked them.

Mining would take exactly those for hard negatives (`pipeline/DESIGN.md` has the figures). So the
negatives are a sample of the store, of which next to nothing is an object, and the windows that
somebody said no to. From one example an SVM learns little more than that image; where windows of
any kind lie is known from the sample, though: the direction from them to the examples, whitened by
their covariance (Hariharan et al. 2012, "Discriminative decorrelation"), costs one small matrix.
The more is marked, the more the SVM counts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int8, Int64

from pipeline.config import Svm
from pipeline.learning import svm
from pipeline.learning.classifiers import Classifiers
from pipeline.store.rows import Vectors
from pipeline.threads import torch_threads

SAMPLE = 12_000
"""Windows: as many as give the recall of a sample of a whole store of 460,000."""
COVARIANCE_SAMPLE = 2_000  # of those: 1,000 to 4,000 gave the same AP
RIDGE = 0.01  # of the total variance, on each axis: 0.003 to 0.03 gave about the same AP
EVEN_AT = 10
"""Marks at which the SVM and the whitened direction count alike."""


@dataclass(frozen=True)
class Background:
    """What windows of any kind are like."""

    mean: Float32[np.ndarray, " dim"]
    centred: Float32[np.ndarray, "sample dim"]
    inverse: Float32[np.ndarray, "sample sample"]
    """Of the sample's products, with the ridge on them."""

    def whitened(self, example: Float32[np.ndarray, " dim"]) -> Float32[np.ndarray, " dim"]:
        """Return the direction from the mean to an example, times the inverse covariance.

        By Woodbury's identity, up to a factor: `d − Nᵀ (N Nᵀ + λ)⁻¹ N d`.
        """
        d = example - self.mean
        return d - self.centred.T @ (self.inverse @ (self.centred @ d))


def sampled(
    vectors: Vectors, seed: int, near: Int64[np.ndarray, " rows"]
) -> Int64[np.ndarray, " sample"]:
    """Return the numbers of some rows of a store, sorted; none of those that are near a yes."""
    count = min(SAMPLE, len(vectors))
    drawn = np.random.default_rng(seed).choice(len(vectors), count, replace=False, shuffle=False)
    return np.setdiff1d(drawn, near)


def background(negatives: Float[np.ndarray, "rows dim"], scale: float) -> Background:
    """Return mean and covariance of a sample."""
    step = max(1, len(negatives) // COVARIANCE_SAMPLE)
    held = negatives[::step][:COVARIANCE_SAMPLE].astype(np.float32) * np.float32(scale)
    mean = held.mean(axis=0, dtype=np.float64).astype(np.float32)
    held -= mean
    # One thread: a product rounds by their number, and a classifier shall not.
    with torch_threads(1):
        centred = torch.from_numpy(held)
        products = centred @ centred.T
        products.diagonal().add_(RIDGE * max(float(products.trace()), 1e-30))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(products))
    return Background(mean, held, inverse.numpy())


def fit(
    known: Background,
    how: Svm,
    class_: str,
    scale: float,
    vectors: Float[np.ndarray, "rows dim"],
    labels: Int8[np.ndarray, " rows"],
    said: int = 0,
) -> Classifiers:
    """Fit examples against a sample.

    The score is 1 in the mean of the examples, and -1 in that of the negatives.

    Args:
        known: of the sample.
        how: settings of the SVM.
        class_: name of the class.
        scale: multiplies the vectors.
        vectors: as stored.
        labels: 1, and -1 for the sample and what is none of the class.
        said: how many of the negatives a person has judged.
    """
    (fitted,) = svm.fit_svms(
        vectors,
        labels[:, None],
        how.C,
        how.positive_weight,
        how.bias,
        how.tolerance,
        scale,
        "dense",
    )
    yes: Bool[np.ndarray, " rows"] = labels > 0
    mean = vectors[yes].mean(axis=0, dtype=np.float64) * scale
    parts = np.stack([known.whitened(mean.astype(np.float32)), fitted.svm.weights])
    both = Classifiers(("", ""), parts.astype(np.float32), np.zeros(2, np.float32), scale)
    scores = both.score(vectors)
    spread = np.maximum(scores[~yes].std(axis=0, dtype=np.float64), 1e-30)
    marked = int(yes.sum()) + said
    share = marked / (marked + EVEN_AT)
    shares = np.array([1 - share, share]) / spread
    weights, joint = shares @ parts, scores @ shares
    high, low = joint[yes].mean(), joint[~yes].mean()
    gain = 2 / max(float(high - low), 1e-30)
    return Classifiers(
        classes=(class_,),
        weights=(gain * weights).astype(np.float32)[None],
        intercepts=np.array([-1 - gain * low], np.float32),
        scale=scale,
    )
