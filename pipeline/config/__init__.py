"""The recipe: what a run depends on, read from TOML and checked."""

from pipeline.config.loading import PROFILES, digest, load, parse
from pipeline.config.recipe import (
    Dataset,
    Detection,
    Evaluation,
    Extractor,
    Features,
    Mining,
    Network,
    Pretrain,
    Recipe,
    Section,
    Svm,
    Windows,
)

__all__ = [
    "PROFILES",
    "Dataset",
    "Detection",
    "Evaluation",
    "Extractor",
    "Features",
    "Mining",
    "Network",
    "Pretrain",
    "Recipe",
    "Section",
    "Svm",
    "Windows",
    "digest",
    "load",
    "parse",
]
