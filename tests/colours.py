"""A few images of three colours in a folder for each, and the recipe that tells them apart."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 40, 210), "green": (40, 200, 40), "red": (220, 30, 40)}
RECIPE = """
name = "colours"
task = "classification"
[dataset]
kind = "folders"
root = "colours"
train = "train"
test = "test"
[network]
name = "zf5"
width = 0.1
fc_units = 16
[features]
scales = [96]
levels = [2, 1]
shard_bytes = 4_000
"""


def paint(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    """Draw noise of one colour, in a size of its own."""
    random = np.random.default_rng(seed)
    size = (int(random.integers(70, 110)), int(random.integers(70, 110)), 3)
    pixels = np.clip(random.normal(colour, 40, size), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_colours(folder: Path) -> Path:
    """Write the images, and the recipe beside them, whose file is returned."""
    for k, (name, colour) in enumerate(COLOURS.items()):
        for split, count in (("train", 6), ("test", 4)):
            for number in range(count):
                place = folder / "colours" / split / name / f"{number}.png"
                paint(place, colour, 100 * k + number + 10 * (split == "test"))
    file = folder / "colours.toml"
    file.write_text(RECIPE)
    return file
