"""Parquet shards of window features: planned, committed exactly once, read, verified (HOUSE §5)."""

from pipeline.store.manifest import Fault, finish, is_complete
from pipeline.store.plan import ShardPlan, plan_shards
from pipeline.store.reader import Store, open
from pipeline.store.schema import VectorSpec, vectors
from pipeline.store.shards import ShardRecord, ShardWriter

__all__ = [
    "Fault",
    "ShardPlan",
    "ShardRecord",
    "ShardWriter",
    "Store",
    "VectorSpec",
    "finish",
    "is_complete",
    "open",
    "plan_shards",
    "vectors",
]
