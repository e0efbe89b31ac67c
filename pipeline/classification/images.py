"""The images of a store, with a vector and labels of each; and random parts of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Int8

from pipeline import config
from pipeline.errors import InputError
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors

_SPLIT = 11  # purpose of the random numbers: no other has it


@dataclass(frozen=True)
class Images:
    """The images of a store, and what they show; their vectors are read when they are asked for."""

    image_ids: tuple[str, ...]
    labels: Int8[np.ndarray, "images classes"]
    """1 shown, -1 not, 0 hardly to be told."""
    vectors: Vectors | None = None
    """Of the store; None: nobody will ask."""

    def take(self, chosen: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some dim"]:
        """Return vectors of some of them, as they are stored."""
        assert self.vectors is not None
        return self.vectors.take(chosen)

    @property
    def everyone(self) -> Int[np.ndarray, " images"]:
        """The places of all."""
        return np.arange(len(self.image_ids))


def read_images(store: Store, classes: Sequence[str]) -> Images:
    """Return the images of a store of whole images. No vector is read."""
    read = Vectors(store)
    rows = np.arange(len(read))
    names = tuple(read.scalars(rows, ["image_id"])["image_id"].to_pylist())
    return Images(names, _labels(store.objects, names, classes), read)


def _labels(
    objects: pa.Table, image_ids: Sequence[str], classes: Sequence[str]
) -> Int8[np.ndarray, "images classes"]:
    labels = np.full((len(image_ids), len(classes)), -1, np.int8)
    place = {name: row for row, name in enumerate(image_ids)}
    column = {name: k for k, name in enumerate(classes)}
    told = (objects[name].to_pylist() for name in ("image_id", "class", "difficult"))
    for image_id, class_name, difficult in zip(*told, strict=True):
        if image_id in place and class_name in column:
            labels[place[image_id], column[class_name]] = 0 if difficult else 1
    return labels


def random_split(
    known: Images,
    classes: Sequence[str],
    settings: config.Classification,
    seed: int,
    number: int,
) -> tuple[Int[np.ndarray, " learnt"], Int[np.ndarray, " asked"]]:
    """Return which images to learn from, and which to be judged by; of each class, its own draw.

    Args:
        known: images in any order that stays the same; each shows one class.
        classes: their names.
        settings: how many of a class go where.
        seed: the recipe's.
        number: of the split.

    Raises:
        InputError: an image shows several classes or none, or a class has a single image.
    """
    counts = (known.labels > 0).sum(axis=1)
    if (counts != 1).any():
        odd = int(np.flatnonzero(counts != 1)[0])
        raise InputError(
            f"image {known.image_ids[odd]} shows {counts[odd]} of the classes, and random splits "
            "draw from images of one class each: set classification.random_splits = 0, with "
            "dataset.train and dataset.test"
        )
    learnt, asked = [], []
    for k, name in enumerate(classes):
        own = np.flatnonzero(known.labels[:, k] > 0)
        if len(own) < 2:
            raise InputError(
                f"class {name} has {len(own)} images that can be read, and a random split needs "
                "one to learn from and one to be judged by: add some, or leave it out of "
                "dataset.classes"
            )
        drawn = np.random.default_rng([seed % 2**32, _SPLIT, number, k]).permutation(own)
        wanted = settings.train_per_class
        first = round(wanted * len(own)) if wanted < 1 else int(wanted)
        first = max(1, min(first, len(own) - 1))
        learnt.append(drawn[:first])
        asked.append(drawn[first:][: settings.test_per_class])
    return np.sort(np.concatenate(learnt)), np.sort(np.concatenate(asked))
