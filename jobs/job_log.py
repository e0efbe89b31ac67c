"""What a job's log has told so far, for those who look on and for the next driver."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.events import read_events, time_s
from pipeline.extraction import ShardStats, add_stats


@dataclass
class ShardTotals:
    """Sums over shards. Each counts once, and the seconds of every attempt that ended well."""

    shard_ids: set[str] = field(default_factory=set)
    rows: int = 0
    images: int = 0
    bytes: int = 0
    quarantined: int = 0
    reused: int = 0
    taken: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    total_s: float = 0.0
    decode_threads: int = 1
    peak_bytes: int = 0
    taken_s: float = 0.0
    """Of `total_s`, what shards took that have images of an earlier store."""
    timed_images: int = 0
    """Of the other shards, those whose seconds are known."""

    def add(self, told: Mapping[str, Any]) -> None:
        """Add the fields of a `shard_committed` event."""
        if told["shard_id"] not in self.shard_ids:
            self.shard_ids.add(told["shard_id"])
            for name in ("rows", "images", "bytes", "quarantined", "reused", "taken"):
                setattr(self, name, getattr(self, name) + told.get(name, 0))
        for sums, name in ((self.seconds, "seconds"), (self.waits, "waits")):
            for stage, spent in told.get(name, {}).items():
                sums[stage] = sums.get(stage, 0.0) + spent
        self.total_s += told.get("total_s", 0.0)
        if told.get("taken"):
            self.taken_s += told.get("total_s", 0.0)
        elif told.get("total_s"):
            self.timed_images += told.get("images", 0)
        self.decode_threads = max(self.decode_threads, told.get("decode_threads", 1))
        self.peak_bytes = max(self.peak_bytes, told.get("peak_bytes", 0))

    def stages(self) -> dict[str, Any]:
        """Return where the time went: seconds by stage, and the one that binds."""
        sums = (self.rows, self.bytes, self.timed_images, {}, self.reused)
        made_s = self.total_s - self.taken_s
        times = (self.seconds, self.waits, made_s, self.decode_threads, self.peak_bytes)
        taken = ShardStats("taken", 0, 0, 0, {}, total_s=self.taken_s, taken=self.taken)
        return add_stats([ShardStats("made", *sums, *times), taken])


_HEAD = ("time", "kind")


class JobLog:
    """Follows a job's log: reads what is new since the last time, and adds it up."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self.totals = ShardTotals()
        self.begun_s: float | None = None
        """When the job was last begun, in seconds since 1970."""
        self.last = ""
        """When the last event was, as the log has it."""
        self.begun_by: dict[str, Any] = {}
        """By which run, on which machine."""
        self.failed: dict[str, str] = {}
        """Shards that were given up since then, each with its reason."""
        self.workers: dict[str, Any] = {}
        """On a cluster: how many are `up`, have `died` since then, or why none starts."""

    def read(self) -> None:
        """Take note of what is new."""
        for event, behind in read_events(self._path, self._offset):
            self._offset, self.last = behind, str(event.get("time", ""))
            match event:
                case {"kind": "job_started"}:
                    self.begun_s, self.failed, self.workers = time_s(event), {}, {}
                    known = ("recipe", "version", "host", "pid")
                    self.begun_by = {name: event[name] for name in known if name in event}
                case {"kind": "shard_committed", "shard_id": str(shard_id)}:
                    with suppress(TypeError, AttributeError):  # not of our writing
                        self.totals.add(event)
                    self.failed.pop(shard_id, None)
                case {"kind": "shard_failed", "shard_id": str(shard_id)}:
                    self.failed[shard_id] = str(event.get("error", ""))
                case {"kind": "waiting_for_room"}:
                    told = {name: value for name, value in event.items() if name not in _HEAD}
                    self.workers["waiting_for_room"] = told
                case {"kind": "actor_started" | "actor_died" | "actor_retired" as what}:
                    self.workers.pop("waiting_for_room", None)
                    self.workers["up"] = event.get("up")
                    self.workers["died"] = self.workers.get("died", 0) + (what == "actor_died")
