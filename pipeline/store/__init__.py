"""Parquet shards of window features: planned, committed exactly once, read, verified (HOUSE §5)."""

from typing import TYPE_CHECKING, Any

from pipeline.store.entries import Manifest, ShardEntry, Totals
from pipeline.store.garbage import Garbage, gc
from pipeline.store.manifest import DamagedShardsError, claim, commit_times, committed, finish
from pipeline.store.map_spec import MapSpec
from pipeline.store.place import Place
from pipeline.store.plan import ProjectedBytes, ShardPlan, plan_shards, projected_bytes
from pipeline.store.reader import Store, open
from pipeline.store.records import ShardRecord
from pipeline.store.repair import fsck
from pipeline.store.rows import Vectors
from pipeline.store.schema import VectorSpec, vectors
from pipeline.store.shards import ShardWriter
from pipeline.store.soundness import remake, reopen, sound
from pipeline.store.verification import Cure, Fault, verify

if TYPE_CHECKING:
    from pipeline.store.maps import maps_table

__all__ = [
    "Cure",
    "DamagedShardsError",
    "Fault",
    "Garbage",
    "Manifest",
    "MapSpec",
    "Place",
    "ProjectedBytes",
    "ShardEntry",
    "ShardPlan",
    "ShardRecord",
    "ShardWriter",
    "Store",
    "Totals",
    "VectorSpec",
    "Vectors",
    "claim",
    "commit_times",
    "committed",
    "finish",
    "fsck",
    "gc",
    "maps_table",
    "open",
    "plan_shards",
    "projected_bytes",
    "remake",
    "reopen",
    "sound",
    "vectors",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load what brings torch when it is asked for: only who writes maps needs it."""
    if name != "maps_table":
        raise AttributeError(f"pipeline.store has no {name}: it has {', '.join(__all__)}")
    from pipeline.store import maps

    return maps.maps_table
