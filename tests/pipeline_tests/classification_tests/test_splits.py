"""Random parts of a store's images: Caltech-101's protocol."""

import numpy as np
import pytest

from pipeline.classification import Images, random_split
from pipeline.config import Classification
from pipeline.errors import InputError

CLASSES = ("few", "some", "many")
COUNTS = (3, 8, 30)


def images(counts=COUNTS):
    shown = np.repeat(np.arange(len(counts)), counts)
    labels = np.where(shown[:, None] == np.arange(len(counts)), 1, -1).astype(np.int8)
    names = tuple(f"{number:03d}" for number in range(len(shown)))
    return Images(names, labels)


def counted(known, rows):
    return (known.labels[rows] > 0).sum(axis=0).tolist()


def test_so_many_of_each_class_and_no_image_in_both():
    known = images()
    settings = Classification(train_per_class=5, test_per_class=10)
    learnt, asked = random_split(known, CLASSES, settings, 0, 0)
    assert counted(known, learnt) == [2, 5, 5]  # of three, one is left to be judged by
    assert counted(known, asked) == [1, 3, 10]
    assert not set(learnt) & set(asked)


def test_a_share_of_each_class_and_all_others():
    known = images()
    settings = Classification(train_per_class=0.8, test_per_class=None)
    learnt, asked = random_split(known, CLASSES, settings, 0, 0)
    assert counted(known, learnt) == [2, 6, 24]
    assert sorted([*learnt, *asked]) == list(range(41))


def test_splits_differ_and_each_is_always_the_same():
    known, settings = images(), Classification(train_per_class=5)
    first = random_split(known, CLASSES, settings, 0, 0)
    assert np.array_equal(first[0], random_split(known, CLASSES, settings, 0, 0)[0])
    for seed, number in ((0, 1), (1, 0), (-1, 0)):
        other = random_split(known, CLASSES, settings, seed, number)
        assert not np.array_equal(first[0], other[0])
    # A class more changes the draw of no other.
    without = random_split(images(COUNTS[:2]), CLASSES[:2], settings, 0, 0)
    assert set(without[0]) == {row for row in first[0] if row < 11}


def test_images_of_several_classes_and_single_images():
    known = images()
    known.labels[4, 0] = 1
    with pytest.raises(InputError, match=r"image 004 shows 2 of the classes.*random_splits = 0"):
        random_split(known, CLASSES, Classification(), 0, 0)
    with pytest.raises(InputError, match="class few has 1 images that can be read"):
        random_split(images((1, 4, 4)), CLASSES, Classification(), 0, 0)


def test_a_part_of_an_image():
    with pytest.raises(ValueError, match=r"2.5 images; give a whole number, or a share below 1"):
        Classification(train_per_class=2.5)
