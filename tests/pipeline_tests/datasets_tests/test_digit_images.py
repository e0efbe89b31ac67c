from pathlib import Path

import numpy as np
import pytest

from pipeline import config, images
from pipeline.datasets import digit_images
from pipeline.datasets.catalogue import DatasetSpec, class_names, write_index
from pipeline.datasets.digits_scans import DIGIT_CLASSES, scans, split_digits
from pipeline.datasets.labels import read_labels


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digit_images")
    kind = {"kind": "digit_images", "train": "train", "train_images": 30, "test_images": 20}
    settings = config.Dataset.model_validate(kind)
    for role, count in (("train", 30), ("test", 20)):
        spec = DatasetSpec(settings, 3, role, whole_images=True)
        assert write_index(spec, folder / role).images == count
    return folder


def pixels(folder):
    return {"/".join(p.parts[-3:]): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


def test_every_image_has_one_digit_and_a_shape_of_its_own(written):
    assert class_names(config.Dataset(kind="digit_images")) == DIGIT_CLASSES
    for split, count in (("train", 30), ("test", 20)):
        read = read_labels(written / split, DIGIT_CLASSES)
        assert read.not_single is None
        assert np.bincount(read.classes).tolist() == [count // 10] * 10
        shapes = [images.decode(Path(file).read_bytes()).shape[:2] for file in read.files]
        assert len(set(shapes)) > count // 2
        ratios = [max(shape) / min(shape) for shape in shapes]
        assert 1 <= min(ratios) < 1.15
        assert 1.25 < max(ratios) <= 1.41


def test_the_same_seed_gives_the_same_bytes_and_more_images_go_on(written, tmp_path):
    digit_images.write_images(tmp_path / "again", 3, n_train=30, n_test=20)
    assert pixels(tmp_path / "again") == pixels(written)
    digit_images.write_images(tmp_path / "fewer", 3, n_train=10, n_test=10)
    fewer, all_ = pixels(tmp_path / "fewer"), pixels(written)
    assert len(fewer) == 20
    assert all(all_[name] == data for name, data in fewer.items())
    digit_images.write_images(tmp_path / "other", 4, n_train=10, n_test=10)
    assert not set(pixels(tmp_path / "other").values()) & set(all_.values())


def test_no_digit_of_a_test_image_is_in_a_training_image(monkeypatch):
    used, ink = [], digit_images.render.ink

    def noted(scan):
        used.append(scan)
        return ink(scan)

    monkeypatch.setattr(digit_images.render, "ink", noted)
    for number in range(60):
        digit_images.digit_image(3, "test", number)
    pool = scans()[0][split_digits(3)["test"]]
    assert all((scan == pool).all(axis=(1, 2)).any() for scan in used)
    used.clear()
    for number in range(60):
        digit_images.digit_image(3, "train", number)
    assert not any((scan == pool).all(axis=(1, 2)).any() for scan in used)
    labels = scans()[1]
    assert [int(labels[(scans()[0] == scan).all(axis=(1, 2))][0]) for scan in used[:12]] == [
        number % 10 for number in range(12)
    ]
