"""What a network's filters respond to: feature maps, and the images that activate them most."""

from pipeline.filters.looking import Filter, Looked, Wanted, look, looked_at
from pipeline.filters.reading import (
    NetworkMaps,
    Reader,
    StoredMaps,
    read_picture,
    scale_in,
    settings_of,
)
from pipeline.filters.sight import Picture, Sight, Spot
from pipeline.filters.strongest import Response, Strongest, best_filters

__all__ = [
    "Filter",
    "Looked",
    "NetworkMaps",
    "Picture",
    "Reader",
    "Response",
    "Sight",
    "Spot",
    "StoredMaps",
    "Strongest",
    "Wanted",
    "best_filters",
    "look",
    "looked_at",
    "read_picture",
    "scale_in",
    "settings_of",
]
