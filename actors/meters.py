"""Ray metrics, which each machine's agent exports to Prometheus: what a run did, and how it is."""

from dataclasses import dataclass
from functools import cache

from ray.util.metrics import Counter, Gauge

from actors.ledger import Outcome
from pipeline.extraction import ShardStats


@dataclass(frozen=True)
class _Metrics:
    """One of each for the process: a name is registered once."""

    counters: dict[str, Counter]
    gauges: dict[str, Gauge]


COUNTERS = {
    "spp_images": "Images that went into committed shards.",
    "spp_images_quarantined": "Images that could not be read, of committed shards.",
    "spp_windows": "Windows of committed shards: rows.",
    "spp_bytes_written": "Bytes of committed shards.",
    "spp_shards_committed": "Shards that were committed.",
    "spp_shards_failed": "Shards that failed or were given up.",
}
GAUGES = {
    "spp_shards_waiting": "Shards that no extractor has in hand.",
    "spp_shards_in_flight": "Shards that extractors have in hand.",
    "spp_actors_up": "Extractors at work, or ready for it.",
}
TAGS = SPLIT, LAYER = "split", "layer"


@cache
def _metrics() -> _Metrics:
    counters = {name: Counter(name, about, TAGS) for name, about in COUNTERS.items()}
    return _Metrics(counters, {name: Gauge(name, about, TAGS) for name, about in GAUGES.items()})


class Meters:
    """Of one run of extractors. The driver counts as answers arrive, and extractors know nothing.

    Prometheus sees the names with `ray_` before them, those of counters with `_total` behind, and
    the image set and the layer as tags: a run may extract two layers at the same time.
    """

    def __init__(self, split: str, layer: str) -> None:
        """Take the name of the image set, and the layer."""
        self._tags, self._metrics = {SPLIT: split, LAYER: layer}, _metrics()

    def count(self, outcome: Outcome) -> None:
        """Add what came of a shard; one that another run had committed counts for nothing."""
        stats = outcome.result
        if outcome.error is not None:
            self._add("spp_shards_failed", 1)
        elif isinstance(stats, ShardStats) and stats.total_s:
            self._add("spp_shards_committed", 1)
            self._add("spp_images", stats.images)
            self._add("spp_images_quarantined", len(stats.quarantined))
            self._add("spp_windows", stats.rows)
            self._add("spp_bytes_written", stats.bytes)

    def _add(self, name: str, amount: int) -> None:
        if amount:  # Ray refuses zero
            self._metrics.counters[name].inc(amount, self._tags)

    def now(self, waiting: int, in_flight: int, actors_up: int) -> None:
        """Tell how things are."""
        amounts = (waiting, in_flight, actors_up)
        for gauge, amount in zip(self._metrics.gauges.values(), amounts, strict=True):
            gauge.set(amount, self._tags)
