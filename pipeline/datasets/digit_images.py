"""The embedded set for classification: images of all shapes with one digit each, in class folders.

The digits and the paint are those of the scenes. An image is up to 1.4 times as long as
wide or the other way round, and the digit may lie anywhere in it: the crop in the centre does not
always hold all of it, while the full image does (paper §3.1, Table 2).
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline.datasets import digits_render as render
from pipeline.datasets.digits_scans import DIGIT_CLASSES, Pool, scans, split_digits
from pipeline.datasets.digits_scenes import random_size

_PURPOSE = 5  # of the random numbers: scenes and training crops have others
_SHORTER_PX = (96, 161)
_LONGEST = 1.4  # times the shorter side
_SHARE = (0.6, 0.95)  # height of a digit, of the shorter side
_CONTRAST = (85.0, 160.0)
_POOLS: dict[str, tuple[Pool, ...]] = {"train": ("pretrain", "train"), "test": ("test",)}


def write_images(folder: Path, seed: int = 0, *, n_train: int, n_test: int) -> None:
    """Write `train/CLASS/*.png` and `test/CLASS/*.png`; classes take turns.

    The same arguments give the same pixels; a larger set begins with the images of a smaller one.
    No digit of a test image is in a training image.

    Args:
        folder: made if need be; files of the same names are replaced.
        seed: of everything.
        n_train: number of training images.
        n_test: number of test images.
    """
    for split, count in (("train", n_train), ("test", n_test)):
        for name in DIGIT_CLASSES:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            label = number % len(DIGIT_CLASSES)
            place = folder / split / DIGIT_CLASSES[label] / f"{number:05d}.png"
            image = digit_image(seed, split, number)
            _, data = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))
            place.write_bytes(data.tobytes())


def digit_image(seed: int, split: str, number: int) -> UInt8[np.ndarray, "rows cols 3"]:
    """Paint one image, RGB; its class is the last decimal of its number.

    Args:
        seed: of the data set.
        split: `train` or `test`.
        number: of the image in its set; each has random numbers of its own.
    """
    rng = np.random.default_rng([seed, _PURPOSE, [*_POOLS].index(split), number])
    images, labels = scans()
    pools = split_digits(seed)
    members = np.concatenate([pools[pool] for pool in _POOLS[split]])
    digit = render.ink(images[rng.choice(members[labels[members] == number % 10])])
    shorter, longer = int(rng.integers(*_SHORTER_PX)), float(rng.uniform(1, _LONGEST))
    sides = [shorter, round(shorter * longer)]
    width, height = sides if rng.random() < 0.5 else sides[::-1]
    canvas = render.clutter(rng, width, height)
    paint = render.Paint.random(rng, _CONTRAST)
    size = np.array(random_size(digit, shorter * rng.uniform(*_SHARE), rng), dtype=float)
    shape = render.mask(digit, round(size[0]), round(size[1]), paint)
    while shape.shape[0] > height or shape.shape[1] > width:  # slanting makes it larger
        size *= 0.9
        shape = render.mask(digit, round(size[0]), round(size[1]), paint)
    x = int(rng.integers(width - shape.shape[1] + 1))
    y = int(rng.integers(height - shape.shape[0] + 1))
    render.paint_over(canvas, shape, x, y, paint, rng)
    return render.grain(canvas, rng)
