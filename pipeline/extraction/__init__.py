"""Images of one shard to one committed Parquet file: what an extractor does, without Ray.

    read, decode, resize (threads)  ->  network, pooling, fc (the caller's)  ->  write (a thread)

The stages are joined by bounded lines, so that none waits for another one's disk or arithmetic.
"""

from pipeline.extraction.decoding import Decoder, Ready
from pipeline.extraction.earlier import Earlier
from pipeline.extraction.extractor import ShardExtractor
from pipeline.extraction.spec import ExtractionSpec, NetworkSpec, map_bytes, vector_spec
from pipeline.extraction.stats import ShardStats, add_stats

__all__ = [
    "Decoder",
    "Earlier",
    "ExtractionSpec",
    "NetworkSpec",
    "Ready",
    "ShardExtractor",
    "ShardStats",
    "add_stats",
    "map_bytes",
    "vector_spec",
]
