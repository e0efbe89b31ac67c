"""The actor that holds the network. It writes its shards itself: vectors never cross Ray."""

import ray

from pipeline.extraction import ExtractionSpec, ShardExtractor, ShardStats
from pipeline.store import ShardPlan

SHARDS_IN_HAND = 2  # while one is brought to the disk, the next one's images are decoded


@ray.remote
class Extractor:
    """One network in one process."""

    def __init__(self, spec: ExtractionSpec) -> None:
        self._spec = spec

    def ready(self) -> bool:
        """Load the network. Not in `__init__`: Ray hands on what is raised there as text only."""
        self._extract = ShardExtractor(self._spec)
        return True

    def extract(self, plan: ShardPlan) -> ShardStats:
        """Extract and commit one shard: the answer says that it is committed."""
        return self._extract(plan)
