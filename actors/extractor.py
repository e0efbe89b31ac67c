"""The actor that holds the network. It writes its shards itself: vectors never cross Ray."""

import ray

from pipeline.extraction import ExtractionSpec, ShardExtractor, ShardStats
from pipeline.store import ShardPlan


@ray.remote
class Extractor:
    """One network in one process."""

    def __init__(self, spec: ExtractionSpec) -> None:
        self._extract = ShardExtractor(spec)

    def ready(self) -> bool:
        """Answer once the network is loaded."""
        return True

    def extract(self, plan: ShardPlan) -> ShardStats:
        """Extract and commit one shard."""
        return self._extract(plan)
