"""scikit-learn's scanned digits, split into pools that share nothing.

1,797 scans of 8x8 pixels (Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, 1998), no
two of them equal. Each is in one of three pools, so that nothing of a test scene was ever seen in
training or pre-training.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int

DIGIT_CLASSES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip
Pool = Literal["pretrain", "train", "test"]
POOLS: tuple[Pool, ...] = ("pretrain", "train", "test")
_SHARES = (0.5, 0.25, 0.25)


@functools.cache
def split_digits(seed: int) -> Mapping[Pool, Int[np.ndarray, " digits"]]:
    """Split the scans' indices into disjoint pools, each balanced by class.

    Half goes to pre-training, a quarter each to train and test.

    >>> {pool: len(indices) for pool, indices in split_digits(0).items()}
    {'pretrain': 896, 'train': 447, 'test': 454}
    """
    _, labels = scans()
    rng = np.random.default_rng(seed)
    parts: dict[Pool, list[np.ndarray]] = {pool: [] for pool in POOLS}
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(_SHARES)[:-1] * len(members)).astype(int)
        for pool, part in zip(POOLS, np.split(members, cuts), strict=True):
            parts[pool].append(part)
    return MappingProxyType({pool: np.sort(np.concatenate(part)) for pool, part in parts.items()})


@functools.cache
def scans() -> tuple[Float32[np.ndarray, "digits 8 8"], Int[np.ndarray, " digits"]]:
    """Return the scans, 0 (paper) to 16 (ink), and their classes 0..9."""
    from sklearn.datasets import load_digits  # a second and 100 MB, for every worker's import

    flat, labels = load_digits(return_X_y=True)
    images = np.asarray(flat, dtype=np.float32).reshape(-1, 8, 8)
    labels = np.asarray(labels)
    images.flags.writeable = labels.flags.writeable = False  # one copy serves all callers
    return images, labels
