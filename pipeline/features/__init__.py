"""Image and windows to vectors: the one function that joins the rooms above, and its steps."""

from pipeline.features.cells import Distinct, distinct_cells
from pipeline.features.maps import feature_maps, narrow_maps, pool_cells, require_fit
from pipeline.features.preparing import as_seen, prepare
from pipeline.features.resizing import EVERY_SCALE, Resized, resize_to_scales, scale_of
from pipeline.features.seen import Seen, window_vectors
from pipeline.features.warping import WARPED_PX, WARPED_TOGETHER, pool_warped, warp_windows

__all__ = [
    "EVERY_SCALE",
    "WARPED_PX",
    "WARPED_TOGETHER",
    "Distinct",
    "Resized",
    "Seen",
    "as_seen",
    "distinct_cells",
    "feature_maps",
    "narrow_maps",
    "pool_cells",
    "pool_warped",
    "prepare",
    "require_fit",
    "resize_to_scales",
    "scale_of",
    "warp_windows",
    "window_vectors",
]
