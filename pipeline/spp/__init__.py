"""Spatial pyramid pooling: which cells a window covers, what is pooled there (SPEC §3-4)."""

from pipeline.spp.cells import choose_scale, distinct, project, window_cells
from pipeline.spp.layer import SpatialPyramidPooling
from pipeline.spp.pooling import bin_edges, empty_vectors, pool

__all__ = [
    "SpatialPyramidPooling",
    "bin_edges",
    "choose_scale",
    "distinct",
    "empty_vectors",
    "pool",
    "project",
    "window_cells",
]
