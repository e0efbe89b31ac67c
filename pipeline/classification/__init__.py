"""From stores of whole images to classifiers, and what they are worth (SPEC §10)."""

from pipeline.classification.images import Images, random_split, read_images
from pipeline.classification.judging import (
    JudgeSpec,
    JudgeStats,
    TrainSpec,
    TrainStats,
    judge,
    judge_split,
    summarise,
    train,
)
from pipeline.classification.pictures import PictureStats, ReportSpec, illustrate

__all__ = [
    "Images",
    "JudgeSpec",
    "JudgeStats",
    "PictureStats",
    "ReportSpec",
    "TrainSpec",
    "TrainStats",
    "illustrate",
    "judge",
    "judge_split",
    "random_split",
    "read_images",
    "summarise",
    "train",
]
