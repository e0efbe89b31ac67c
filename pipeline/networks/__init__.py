"""Conv nets from image to feature map, their geometry, heads and weights (SPEC §2, §5)."""

from pipeline.networks.added_head import renew_classifier
from pipeline.networks.architectures import (
    ARCHITECTURES,
    BACKBONES,
    architecture_of,
    code_digest,
    require_code,
)
from pipeline.networks.catalogue import load, outline, recognise
from pipeline.networks.geometry import Geometry, derive, map_size, receptive_field
from pipeline.networks.head import Head
from pipeline.networks.network import Network
from pipeline.networks.preprocessing import PRESETS, Preprocessing
from pipeline.networks.weights import classes_in, digest, save
from pipeline.networks.zf5 import PlainZF5

__all__ = [
    "ARCHITECTURES",
    "BACKBONES",
    "PRESETS",
    "Geometry",
    "Head",
    "Network",
    "PlainZF5",
    "Preprocessing",
    "architecture_of",
    "classes_in",
    "code_digest",
    "derive",
    "digest",
    "load",
    "map_size",
    "outline",
    "receptive_field",
    "recognise",
    "renew_classifier",
    "require_code",
    "save",
]
