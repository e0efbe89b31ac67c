"""Pictures of coloured shapes in files, and a network small enough to learn them in seconds."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.config import Pretrain
from pipeline.extraction import NetworkSpec
from pipeline.pretraining import TrainingSpec, write_table

OPTIONS = {"width": 0.07, "fc_units": 16, "levels": (2, 1), "classes": 3}
SMALL = {
    "sides_px": (48,),
    "resized_px": 56,
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.03,
    "decode_threads": 2,
    "held_out": 0.2,
}


def shape(random: np.random.Generator, label: int) -> np.ndarray:
    """A picture of 80x60 px: a square, a disc or a bar of any colour on darker noise."""
    picture = random.integers(0, 70, (60, 80, 3)).astype(np.uint8)
    ink = tuple(map(int, random.integers(120, 256, 3)))
    x, y = map(int, random.integers([26, 22], [55, 39]))
    if label == 0:
        cv2.rectangle(picture, (x - 14, y - 14), (x + 14, y + 14), ink, -1)
    elif label == 1:
        cv2.circle(picture, (x, y), 16, ink, 4)
    else:
        cv2.rectangle(picture, (x - 22, y - 4), (x + 22, y + 4), ink, -1)
    return picture


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Write so many pictures of three classes in turn, and return their table."""

    def write(count: int) -> Path:
        folder = tmp_path_factory.mktemp("pictures")
        random = np.random.default_rng(4)
        files = [folder / f"{number:03d}.png" for number in range(count)]
        labels = np.arange(count) % 3
        for file, label in zip(files, labels, strict=True):
            Image.fromarray(shape(random, int(label))).save(file)
        write_table(folder / "images.parquet", files, labels)
        return folder / "images.parquet"

    return write


@pytest.fixture(scope="session")
def few(pictures: Callable[[int], Path]) -> Path:
    """The table of forty pictures."""
    return pictures(40)


@pytest.fixture(scope="session")
def make_spec(few: Path) -> Callable[..., TrainingSpec]:
    def make(images=few, validation=None, seed=3, **settings) -> TrainingSpec:
        """A training of the small network; settings are those of `[pretrain]`."""
        network = NetworkSpec("zf5", None, seed, None, OPTIONS)
        held = Pretrain(**(SMALL | settings))
        return TrainingSpec(network, images, 3, held, seed, validation)

    return make
