"""What the tests of a round and those of whole trainings both ask."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.learning.cache import read_members
from pipeline.store import Store


@pytest.fixture(scope="session")
def negatives() -> Callable[..., list[list[tuple[str, int]]]]:
    def read(folder: Path, held: Store, classes: int = 2) -> list[list[tuple[str, int]]]:
        """(shard, row) of each class's negatives after the pass that wrote the folder."""
        found: list[list[tuple[str, int]]] = [[] for _ in range(classes)]
        for record in held.records:
            members = read_members(folder, record.shard_id, classes)
            for place, k in np.argwhere(members.negative).tolist():
                found[k].append((record.shard_id, int(members.row[place])))
        return found

    return read
