"""The recipe: what a run depends on, read from TOML and checked."""

from pipeline.config.classification import Classification
from pipeline.config.dataset import Dataset
from pipeline.config.errors import Errors
from pipeline.config.extraction import Extractor, Network, Windows
from pipeline.config.features import Features
from pipeline.config.learning import (
    Detection,
    Evaluation,
    Finetune,
    Mining,
    Regression,
    Svm,
)
from pipeline.config.loading import PROFILES, digest, load, parse
from pipeline.config.pretraining import Pretrain
from pipeline.config.recipe import Recipe
from pipeline.config.section import Section

__all__ = [
    "PROFILES",
    "Classification",
    "Dataset",
    "Detection",
    "Errors",
    "Evaluation",
    "Extractor",
    "Features",
    "Finetune",
    "Mining",
    "Network",
    "Pretrain",
    "Recipe",
    "Regression",
    "Section",
    "Svm",
    "Windows",
    "digest",
    "load",
    "parse",
]
