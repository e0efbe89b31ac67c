"""The library: arrays, files, networks, learning. No Ray anywhere.

    import pipeline

    network = pipeline.networks.load("squeezenet1_1", "squeezenet1_1.pth")
    found = pipeline.extract("photo.jpg", network, scales=(480,), levels=(3, 2, 1))
    found.boxes, found.vectors           # windows of the image, and a vector for each

| | |
|---|---|
| `extract` | windows and vectors of one image |
| `boxes`, `windows`, `images` | overlap, suppression; candidate windows; decoding |
| `networks`, `spp` | conv nets and their geometry; pooling |
| `learning`, `evaluation` | SVMs, mining, box regression; average precision |
| `store` | `store.open(…)`: the features that runs have stored |
| `model` | `model.load(folder).detect(…)`: what a recipe has learnt |

Each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline import (
        boxes,
        config,
        evaluation,
        images,
        learning,
        model,
        networks,
        spp,
        store,
        windows,
    )
    from pipeline.one_image import extract

__all__ = [
    "boxes",
    "config",
    "evaluation",
    "extract",
    "images",
    "learning",
    "model",
    "networks",
    "spp",
    "store",
    "windows",
]


def __getattr__(name: str) -> Any:
    if name == "extract":
        return import_module("pipeline.one_image").extract
    if name in __all__:
        return import_module(f"pipeline.{name}")
    raise AttributeError(f"pipeline has no {name}: it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
