"""Where an extractor's time goes: seconds at work and seconds of waiting, by stage."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

# Within a line one stage waits for the other; the lines are at work at the same time.
LINES = (("decode",), ("warp", "network", "pooling", "fc"), ("write",))


Item = TypeVar("Item")


@dataclass(frozen=True)
class ShardStats:
    """What came of a shard. All that travels back from an extractor."""

    shard_id: str
    rows: int
    bytes: int
    images: int
    quarantined: dict[str, str]
    reused: int = 0
    """Windows that got the vector of another one, for they cover the same cells."""
    seconds: dict[str, float] = field(default_factory=dict)
    """At work, by stage; empty where the shard was committed before."""
    waits: dict[str, float] = field(default_factory=dict)
    """Seconds for which the network stood still, by the stage that it waited for."""
    total_s: float = 0.0
    """From the shard's start, or the end of the extractor's shard before, to its commit."""
    decode_threads: int = 1
    """That the seconds of `decode` are spread over."""
    peak_bytes: int = 0
    """Most memory that the worker's process had had when the shard ended; 0 where unknown."""
    worker: str = ""
    """The process that did it, and where; empty outside of a cluster."""
    decoded_here: int = 0
    """With decode = "cluster": images that the worker decoded itself since its last shard, for
    nobody had a CPU for them."""
    taken: int = 0
    """Images whose rows an earlier store had."""


class Clock:
    """Adds up seconds by stage, from any thread."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._lock = threading.Lock()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, Any, Any]] = []

    @contextmanager
    def host(self, stage: str) -> Iterator[None]:
        """Time a block by the wall clock."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._seconds[stage] += spent

    def each(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and time what it takes to make each."""
        waiting, end = iter(items), object()
        while True:
            with self.host(stage):
                item: Any = next(waiting, end)
            if item is end:
                return
            yield item

    @contextmanager
    def device(self, stage: str) -> Iterator[None]:
        """Time what a block gives the device to do; on a GPU that is done later."""
        if not self._on_gpu:
            with self.host(stage):
                yield
            return
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        stop.record()
        self._events.append((stage, start, stop))

    def seconds(self) -> dict[str, float]:
        """Return the seconds so far; waits for the device."""
        for stage, start, stop in self._events:
            stop.synchronize()
            self._seconds[stage] += start.elapsed_time(stop) / 1000
        self._events = []
        return dict(self._seconds)


def add_stats(stats: Iterable[ShardStats]) -> dict[str, Any]:
    """Return the sums of many shards for people, with the stage that binds.

    >>> one = ShardStats("a", 9, 0, 1, {}, 2, {"decode": 3.0, "network": 8.0}, {"decode": 1.0}, 9.9)
    >>> add_stats([one])["bound_by"]
    'network (81% of 10 s)'
    """
    seconds: Counter[str] = Counter()
    waits: Counter[str] = Counter()
    total_s, reused, threads, peak_bytes = 0.0, 0, 1, 0
    made_s, made = 0.0, 0
    for each in stats:
        seconds.update(each.seconds)
        waits.update(each.waits)
        total_s, reused = total_s + each.total_s, reused + each.reused
        threads = max(threads, each.decode_threads)  # a shard of a run before knows none
        peak_bytes = max(peak_bytes, each.peak_bytes)
        if each.total_s and not each.taken:  # others tell what copying takes, more than making
            made_s, made = made_s + each.total_s, made + each.images
    return {
        "windows_reused": reused,
        "bound_by": _bound_by(seconds, total_s, threads),
        "worker_seconds": {stage: round(spent, 2) for stage, spent in seconds.items()},
        "waited_seconds": {stage: round(spent, 2) for stage, spent in waits.items()},
        "worker": {
            "seconds_per_image": round(made_s / made, 5) if made else None,
            "peak_bytes": peak_bytes,
        },
    }


def _bound_by(seconds: Mapping[str, float], total_s: float, decode_threads: int) -> str:
    """Name the longest stage of the busiest line, and for how much of the time it was at work."""
    if not total_s:
        return ""
    spent = {**seconds, "decode": seconds.get("decode", 0.0) / decode_threads}
    line = max(LINES, key=lambda line: sum(spent.get(stage, 0.0) for stage in line))
    stage = max(line, key=lambda stage: spent.get(stage, 0.0))
    # Of two shards that overlap, both may be written at a time.
    return f"{stage} ({min(spent[stage] / total_s, 1):.0%} of {total_s:.0f} s)"
