"""Trainings that do not come to their end: one dies in its second epoch, one waits in its third."""

import os
import time
from functools import partial
from pathlib import Path

from torch import distributed

from pipeline.pretraining import TrainingSpec, remaining, train_part


def train_remaining(spec: TrainingSpec, states: Path, told: Path) -> None:
    remaining.train_part = partial(_train_part, states.parent / "died")  # in a process of its own
    remaining.train_remaining(spec, states, told)


def train_two(spec: TrainingSpec, states: Path, told: Path) -> None:
    remaining.train_part = _train_part_or_wait
    remaining.train_remaining(spec, states, told)


def _train_part_or_wait(spec: TrainingSpec, states: Path, part: int):
    if part == 2:
        time.sleep(600)  # until it is killed
    return train_part(spec, states, part)


def _train_part(died: Path, spec: TrainingSpec, states: Path, part: int):
    def die(step: int, of: int) -> None:
        middle = part == 1 and step == of // 2
        if middle and distributed.get_rank() == 1 and not died.exists():
            died.write_text(f"before step {step + 1} of {of}")
            os._exit(1)

    return train_part(spec, states, part, die)
