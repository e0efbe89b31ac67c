"""Places for stores, and stores in them."""

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import store
from pipeline.store.place import place
from tests import small_store
from tests.s3 import BUCKET


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> store.Place:
    """An empty place of each kind."""
    if request.param == "local":
        return place(tmp_path / "store")
    request.getfixturevalue("s3_server")
    return place(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture(params=["windows", "maps"])
def small(request: pytest.FixtureRequest, root: store.Place) -> store.Store:
    """Twelve windows in two shards, of each kind in each place."""
    small_store.make(root, request.param == "maps")
    return store.open(root)


@pytest.fixture
def vectors_store(made: type, make_store: Callable[..., store.Store], tmp_path: Path):
    """A store of given vectors: an image each eight of them, two images a shard.

    Of an image neighbours overlap by 50 / 150, and no others do by more than nothing.
    """

    def make(vectors: np.ndarray, dtype: str = "float32", name: str = "store") -> store.Store:
        images = {
            f"{first:05d}": made(part, [[k, 0, k + 10, 10] for k in range(0, 5 * len(part), 5)])
            for first in range(0, len(vectors), 8)
            if len(part := vectors[first : first + 8])
        }
        names = list(images)
        shards = [
            {name: images[name] for name in names[first : first + 2]}
            for first in range(0, len(names), 2)
        ]
        return make_store(tmp_path / name, shards, vectors.shape[1], dtype)

    return make
