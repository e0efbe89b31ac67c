"""What the tests of a round and those of whole trainings both ask, and the images they train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.records import Object
from pipeline.learning.cache import read_members
from pipeline.store import Store


@pytest.fixture(scope="session")
def negatives() -> Callable[..., list[list[tuple[str, int]]]]:
    def read(folder: Path, held: Store, classes: int = 2) -> list[list[tuple[str, int]]]:
        """(shard, row) of each class's negatives after the pass that wrote the folder."""
        found: list[list[tuple[str, int]]] = [[] for _ in range(classes)]
        for entry in held.shards:
            members = read_members(folder, entry.shard_id, classes)
            for place, k in np.argwhere(members.negative).tolist():
                found[k].append((entry.shard_id, int(members.row[place])))
        return found

    return read


@pytest.fixture(scope="module")
def scenes(made: Any) -> dict[str, Any]:
    """Twelve images of 40 windows; objects' vectors lean one way, windows' scatter about zero."""
    random = np.random.default_rng(11)
    lean = {"cat": random.normal(size=16), "dog": random.normal(size=16)}
    images = {}
    for number in range(12):
        objects = tuple(
            Object(name, (x, y, x + 30.0, y + 25.0), difficult=number % 5 == 0)
            for name, x, y in (("cat", 5.0 * number, 10.0), ("dog", 40.0, 4.0 * number))
            if number % 3 or name == "cat"
        )
        corners = random.integers(0, 60, (40, 2))
        windows = np.hstack([corners, corners + random.integers(15, 40, (40, 2))])
        windows = windows.astype(float).tolist()
        vectors = random.normal(size=(40 + len(objects), 16))
        for row, one in enumerate(objects, start=40):
            vectors[row] += 1.5 * lean[one.class_name]
        vectors[:40] += random.random((40, 1)) * lean["cat"]  # some look like cats
        images[f"{number:02d}"] = made(vectors * 3, windows, objects)
    return images


@pytest.fixture(scope="session")
def in_shards() -> Callable[..., list[dict[str, Any]]]:
    def cut(scenes: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """The images, one after the other, in so many shards of one size."""
        ids = list(scenes)
        size = len(ids) // count
        return [{k: scenes[k] for k in ids[s : s + size]} for s in range(0, len(ids), size)]

    return cut
