"""Training whole networks from nothing: images, sizes, schedule, step, states (SPEC §10)."""

from pipeline.pretraining.files import FileImages, write_table
from pipeline.pretraining.images import Batch, CropImages, Images
from pipeline.pretraining.parts import (
    EpochStats,
    FinishStats,
    TrainingSpec,
    begin,
    finish,
    train_part,
)
from pipeline.pretraining.remaining import train_remaining
from pipeline.pretraining.states import keep, last

__all__ = [
    "Batch",
    "CropImages",
    "EpochStats",
    "FileImages",
    "FinishStats",
    "Images",
    "TrainingSpec",
    "begin",
    "finish",
    "keep",
    "last",
    "train_part",
    "train_remaining",
    "write_table",
]
