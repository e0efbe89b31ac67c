"""The actor that holds the network. It writes its shards itself: vectors never cross Ray."""

from contextlib import nullcontext
from dataclasses import replace

import ray

from actors.decoding import Elsewhere
from actors.worker import Worker
from pipeline.apart import trial
from pipeline.extraction import ExtractionSpec, ShardExtractor, ShardStats
from pipeline.store import ShardPlan

SHARDS_IN_HAND = 2  # while one is brought to the disk, the next one's images are decoded


@ray.remote
class Extractor:
    """One network in one process."""

    def __init__(self, spec: ExtractionSpec) -> None:
        self._spec = spec

    def place(self) -> Worker:
        """Say where this is: answered as soon as the cluster had room for it."""
        return Worker.here()

    def ready(self) -> Worker:
        """Load the network. Not in `__init__`: Ray hands on what is raised there as text only."""
        self._elsewhere = Elsewhere() if self._spec.decode == "cluster" else None
        self._extract = ShardExtractor(self._spec, self._elsewhere)
        here = Worker.here()
        self._worker = str(here)
        return here

    def extract(self, plan: ShardPlan, wary: bool = False) -> ShardStats:
        """Extract and commit one shard: the answer says that it is committed.

        Args:
            plan: of it.
            wary: workers have died of it, and an image may be why.
        """
        with trial.wary() if wary else nullcontext():
            stats = replace(self._extract(plan), worker=self._worker)
        if self._elsewhere is None:
            return stats
        return replace(stats, decoded_here=self._elsewhere.decoded_here())
