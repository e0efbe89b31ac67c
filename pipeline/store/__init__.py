"""Parquet shards of window features: planned, committed exactly once, read, verified (HOUSE §5)."""

from pipeline.store.manifest import Fault, finish
from pipeline.store.maps import MapSpec, maps_table
from pipeline.store.plan import ProjectedBytes, ShardPlan, plan_shards, projected_bytes
from pipeline.store.reader import Store, open
from pipeline.store.records import ShardRecord
from pipeline.store.schema import VectorSpec, vectors
from pipeline.store.shards import ShardWriter

__all__ = [
    "Fault",
    "MapSpec",
    "ProjectedBytes",
    "ShardPlan",
    "ShardRecord",
    "ShardWriter",
    "Store",
    "VectorSpec",
    "finish",
    "maps_table",
    "open",
    "plan_shards",
    "projected_bytes",
    "vectors",
]
