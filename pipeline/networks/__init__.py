"""Conv nets from image to feature map, their geometry, heads and weights (SPEC §2, §5)."""

from pipeline.networks.added_head import renew_classifier
from pipeline.networks.catalogue import ARCHITECTURES, load, outline, recognise
from pipeline.networks.geometry import Geometry, derive, map_size
from pipeline.networks.head import Head
from pipeline.networks.network import Network
from pipeline.networks.preprocessing import PRESETS, Preprocessing
from pipeline.networks.weights import digest, save

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "Geometry",
    "Head",
    "Network",
    "Preprocessing",
    "derive",
    "digest",
    "load",
    "map_size",
    "outline",
    "recognise",
    "renew_classifier",
    "save",
]
