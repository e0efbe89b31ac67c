"""Test views: which pixels they show, and what is made of their scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import networks
from pipeline.errors import InputError, RecipeError
from pipeline.evaluation.classification import hits
from pipeline.evaluation.top_errors import ErrorStats, TestImage, TestSpec, classify, errors
from pipeline.evaluation.views import TestViews, probabilities, views
from pipeline.extraction import NetworkSpec

OPTIONS = {"width": 0.07, "fc_units": 12, "levels": (2, 1), "classes": 3}


@pytest.fixture
def image():
    """4x7 px, whose red tells the column and green the row."""
    pixels = np.zeros((4, 7, 3), np.uint8)
    pixels[..., 0] = np.arange(7)
    pixels[..., 1] = np.arange(4)[:, None]
    return pixels


def seen(image, kind, scales=(4,), crop_px=2):
    """Of each view its first pixel as (column, row), and its size."""
    found = views(image, TestViews(kind, scales, crop_px))
    return [(*map(int, view[0, 0, :2]), *view.shape[:2]) for view in found]


def test_one_crop_is_the_centre(image):
    assert seen(image, "crop") == [(2, 1, 2, 2)]  # (7 - 2) // 2, (4 - 2) // 2


def test_one_full_image_keeps_its_shape(image):
    assert seen(image, "full") == [(0, 0, 4, 7)]
    assert [view.shape for view in views(image, TestViews("full", (8,)))] == [(8, 14, 3)]


def test_ten_crops_of_the_entire_image_each_mirrored(image):
    assert seen(image, "10") == [
        *((2, 1, 2, 2), (3, 1, 2, 2)),  # a mirror image begins with its last column
        *((0, 0, 2, 2), (1, 0, 2, 2)),
        *((5, 0, 2, 2), (6, 0, 2, 2)),
        *((0, 2, 2, 2), (1, 2, 2, 2)),
        *((5, 2, 2, 2), (6, 2, 2, 2)),
    ]


def test_eight_crops_and_two_full_images(image):
    ten, mixed = seen(image, "10"), seen(image, "8+2")
    assert mixed[:2] == [(0, 0, 4, 7), (6, 0, 4, 7)]
    assert mixed[2:] == ten[2:]


def test_several_scales_one_after_the_other(image):
    assert seen(image, "full", (4, 8)) == [(0, 0, 4, 7), (0, 0, 8, 14)]
    assert len(seen(image, "8+2", (4, 8))) == TestViews("8+2", (4, 8)).count == 20
    assert TestViews("crop", (4, 8, 9)).count == 3


@pytest.fixture
def network():
    return networks.load("zf5", seed=2, **OPTIONS)


def test_probabilities_are_the_mean_softmax(network):
    picture = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    of = TestViews("8+2", (48, 64), 40)
    found = probabilities(network, picture, of)
    each = [
        network.logits(network.preprocessing.apply(np.ascontiguousarray(view))[None])[0]
        for view in views(picture, of)
    ]
    expected = torch.stack([scores.softmax(0) for scores in each]).mean(0)
    assert len(each) == 20
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)
    assert found.sum() == pytest.approx(1)


def test_what_a_network_does_not_take(network):
    plain = networks.load("plain_zf5", width=0.04, fc_units=8)
    for kind in ("full", "8+2"):
        with pytest.raises(RecipeError, match="plain_zf5 takes one size of images"):
            TestViews(kind).require(plain)
    TestViews("10").require(plain)
    with pytest.raises(RecipeError, match="224x224 px alone, not 180x180"):
        TestViews("crop", crop_px=180).require(plain)
    with pytest.raises(RecipeError, match=r"crops of 224 px .* is 180 px"):
        TestViews("10", (256, 180)).require(network)
    TestViews("full", (256, 180)).require(network)
    with pytest.raises(RecipeError, match="no cell left"):
        TestViews("full", (256, 24)).require(network)


def test_the_best_five_by_hand():
    scores = np.array([[6, 5, 4, 3, 2, 1.0], [1, 2, 3, 4, 5, 6.0], [1, 1, 1, 1, 1, 1.0]])
    assert hits(scores, [4, 0, 5], 5).tolist() == [True, False, False]  # of equals the last is out
    assert hits(scores, [0, 5, 0], 1).tolist() == [True, True, True]
    assert hits(scores, [4, 0, 5], 6).all()


@pytest.fixture
def items(tmp_path: Path):
    random, made = np.random.default_rng(0), []
    for number in range(7):
        made.append(TestImage(f"image {number}", tmp_path / f"{number}.png", number % 3))
        pixels = random.integers(0, 256, (60, 50, 3), np.uint8)
        Image.fromarray(pixels).save(made[-1].file)
    return made


def test_errors_of_files_are_counts_that_add_up(network, items):
    items[2].file.write_bytes(b"none")
    items[5].file.unlink()
    views_ = (TestViews("10", (48,), 40), TestViews("full", (48,)))
    spec = TestSpec(NetworkSpec("zf5", None, 2, None, OPTIONS), views_, 3, (1, 3))
    parts = [classify(spec, items[:3]), classify(spec, items[3:])]
    assert [each.images for each in parts] == [2, 3]
    assert parts[0].unreadable.keys() == {"image 2"}
    assert parts[0].unreadable["image 2"].startswith("not an image")
    assert parts[1].unreadable == {"image 5": "No such file or directory"}
    for of in views_:
        scores = [
            probabilities(network, np.asarray(Image.open(item.file)), of) for item in items[:2]
        ]
        wrong = int((~hits(np.array(scores), [0, 1], 1)).sum())
        assert parts[0].wrong[f"top-1 error of {of.kind}"] == wrong
        assert parts[0].wrong[f"top-3 error of {of.kind}"] == 0
        total = wrong + parts[1].wrong[f"top-1 error of {of.kind}"]
        assert errors(parts)[f"top-1 error of {of.kind}"] == total / 5
    with pytest.raises(InputError, match=r"no image could be classified; 1 unreadable: \['a: b'"):
        errors([ErrorStats(0, {"top-1": 0}, {"a": "b"})])


def test_what_gives_no_errors(network, items, tmp_path: Path):
    named = NetworkSpec("zf5", None, 2, None, OPTIONS)
    with pytest.raises(RecipeError, match="crops of 40 px"):
        classify(TestSpec(named, (TestViews("10", (30,), 40),), 3), items)
    with pytest.raises(RecipeError, match="zf5 gives scores of 3 classes, and the dataset has 4"):
        classify(TestSpec(named, (TestViews("full", (48,)),), 4), items)
    with torch.no_grad():
        network.fc8.weight.fill_(3e38)  # finite, and its products are not
        network.fc8.bias[0] = -3e38
    networks.save(network, tmp_path / "spoilt.safetensors")
    spoilt = NetworkSpec("zf5", tmp_path / "spoilt.safetensors")
    with pytest.raises(InputError, match=r"scores that are no numbers for .*0\.png"):
        classify(TestSpec(spoilt, (TestViews("full", (48,)),), 3), items)
