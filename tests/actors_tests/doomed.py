"""An extractor whose process is killed at a point of the commit that its shard names."""

import threading
from dataclasses import replace
from pathlib import Path

import ray

from actors.worker import Worker
from pipeline.extraction import ExtractionSpec, ShardExtractor, ShardStats
from pipeline.store import ShardPlan
from tests import faults

# What a worker does with a shard, in order; of each step that call after which most lies there.
POINTS = {
    "write_rows": {"step": "write_rows"},
    "check": {"step": "check", "nth": 2},  # of the maps, and then of the rows
    "finish": {"step": "finish", "nth": 2},
    "bring_maps": {"step": "bring_maps"},
    "bring_rows": {"step": "bring_rows"},
    "create_record": {"step": "create_record"},
    "created_record": {"step": "create_record", "when": "after"},
}


def point_of(plan: ShardPlan) -> str:
    return plan.shard_id.partition("-")[2]


@ray.remote
class Doomed:
    """The extractor's methods."""

    def __init__(self, spec: ExtractionSpec) -> None:
        self._spec, self._one = spec, threading.Lock()

    def place(self) -> Worker:
        return Worker.here()

    def ready(self) -> Worker:
        self._extract = ShardExtractor(self._spec)
        return Worker.here()

    def extract(self, plan: ShardPlan, wary: bool = False) -> ShardStats:
        """Die at the shard's point the first time; leave a note of what lies there the second."""
        mark = self._marks / point_of(plan)
        with self._one:  # calls are counted for one shard
            if mark.exists():
                mark.write_text("\n".join(sorted(self._left(plan))))
            fault = {**POINTS[point_of(plan)], "do": "kill", "once": str(mark)}
            with faults.installed([fault]):
                return replace(self._extract(plan), worker=str(Worker.here()))

    @property
    def _marks(self) -> Path:
        return self._spec.images.parent / "marks"

    def _left(self, plan: ShardPlan) -> set[str]:
        """Folders in which there is a file of the shard that has its name."""
        found = Path(str(self._spec.root)).glob(f"*/{plan.shard_id}*")
        return {path.parent.name for path in found if ".tmp." not in path.name}
