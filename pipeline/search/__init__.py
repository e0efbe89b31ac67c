"""Asking a store: vectors of any box, and what lies near them."""

from pipeline.search.compact import Compact
from pipeline.search.compacting import build
from pipeline.search.regions import Regions, region_vectors

__all__ = [
    "Compact",
    "Regions",
    "build",
    "region_vectors",
]
