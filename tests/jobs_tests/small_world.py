"""Folders that have what pages of the documentation speak of, but small."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.exit_codes import QUARANTINED
from pipeline.datasets import digits
from tests.jobs_tests.shown import PAGES, blocks

# Instead of an hour:
LARGE = {f"{name}.toml" for name in ("animals", "better", "album", "zoo")}
SMALL = (
    "windows.method=grid",
    "windows.max_windows=150",
    "features.scales=[96]",
    "mining.max_rounds=1",
)
CLASSES = ("aeroplane", "bird", "cat", "dog")


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8))


def with_boxes(folder: Path) -> None:
    """Photographs of the tutorial's classes, in VOC's layout."""
    digits.write(folder / "photos", 0, n_train=8, n_test=4)
    for file in (folder / "photos" / "Annotations").iterdir():
        text = file.read_text()
        for number, name in enumerate(digits.DIGIT_CLASSES):
            text = text.replace(f"<name>{name}</name>", f"<name>{CLASSES[number % 4]}</name>")
        file.write_text(text)


def with_folders(folder: Path) -> None:
    """Photographs in a folder for each class."""
    for number, name in enumerate(("zebra", "giraffe")):
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(6):
            noise(10 * number + k).save(folder / "photos" / name / f"{k}.jpg")


def with_recipes(folder: Path) -> None:
    """Small recipes of one kind."""
    tiny = (folder / "digits").read_text()
    for name in ("a", "b", "mine", "other"):
        changed = "0.002" if name in ("b", "other") else "0.001"
        named = tiny.replace('name = "tiny"', f'name = "{name}"')
        (folder / f"{name}.toml").write_text(named.replace("[svm]", f"[svm]\nC = {changed}"))


def with_animals(folder: Path) -> None:
    """The tutorial's recipe, with its photographs."""
    with_boxes(folder)
    recipe = "\n".join(blocks(PAGES["docs/tutorial.md"], "toml")[0])
    (folder / "animals.toml").write_text(recipe)


def with_a_torn_image(folder: Path) -> None:
    """The same, when a run has left an image of them out; and photographs in folders."""
    with_animals(folder)
    (folder / "photos").rename(folder / "animals")
    recipe = folder / "animals.toml"
    recipe.write_text(recipe.read_text().replace('root = "photos"', 'root = "animals"'))
    torn = folder / "animals" / "JPEGImages" / "train_00005.jpg"
    torn.write_bytes(torn.read_bytes()[:-40])
    small = [word for each in SMALL for word in ("--set", each)]
    run = [sys.executable, "-m", "jobs", "extract", "animals.toml", "--serial", *small]
    ran = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == QUARANTINED, ran.stderr
    with_folders(folder)


PREPARED: dict[str, Callable[[Path], None]] = {
    "docs/how-to/compare.md": with_recipes,
    "docs/how-to/images.md": with_a_torn_image,
    "docs/how-to/stores.md": with_animals,
    "docs/how-to/whole-images.md": with_folders,
    "docs/tutorial.md": with_boxes,
    "README.md, 0": with_recipes,
    "README.md, 1": with_folders,
}
