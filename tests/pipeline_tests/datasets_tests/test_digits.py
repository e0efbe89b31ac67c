import hashlib
import json

import numpy as np
import pytest

from pipeline import images
from pipeline.datasets import digits, digits_render, digits_scans, digits_scenes, read_voc


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("digits")
    digits.write(made, 7, n_train=40, n_test=20)
    return made


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.*"))
    }


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    digits.write(tmp_path / "again", 7, n_train=40, n_test=20)
    assert digest(tmp_path / "again") == digest(folder)
    digits.write(tmp_path / "other", 8, n_train=2, n_test=2)
    one = "JPEGImages/train_00000.jpg"
    assert digest(tmp_path / "other")[one] != digest(folder)[one]


def test_a_larger_set_begins_with_the_smaller_one(folder, tmp_path):
    digits.write(tmp_path, 7, n_train=3, n_test=2)
    small, large = digest(tmp_path), digest(folder)
    scenes = [name for name in small if name.startswith(("JPEG", "Anno"))]
    assert len(scenes) == 10
    assert all(small[name] == large[name] for name in scenes)


def test_no_digit_is_shared_between_the_pools(folder):
    record = json.loads((folder / "digits.json").read_text())
    pools = {name: set(indices) for name, indices in record["pools"].items()}
    assert sorted(index for pool in record["pools"].values() for index in pool) == [*range(1797)]
    for image_id, used in record["scenes"].items():
        assert set(used) <= pools[image_id.split("_")[0]]
    scans, _ = digits_scans.scans()
    assert len(np.unique(scans.reshape(-1, 64), axis=0)) == 1797  # so no digit is there twice


def test_pools_are_balanced_by_class():
    _, labels = digits_scans.scans()
    for pool, share in zip(("pretrain", "train", "test"), (0.5, 0.25, 0.25), strict=True):
        counts = np.bincount(labels[digits.split_digits(3)[pool]])
        assert np.abs(counts - share * np.bincount(labels)).max() <= 1
    assert not np.array_equal(digits.split_digits(3)["test"], digits.split_digits(4)["test"])


def test_the_voc_reader_reads_it(folder):
    _, labels = digits_scans.scans()
    used = json.loads((folder / "digits.json").read_text())["scenes"]
    for image_set, count in (("train", 40), ("test", 20)):
        records = read_voc(folder, image_set, digits.DIGIT_CLASSES).records
        assert len(records) == count
        for number, record in enumerate(records):
            pixels = images.decode(record.path.read_bytes())
            assert pixels.shape == (record.height, record.width, 3)
            scene = digits.scene(7, image_set, number)
            assert record.objects == scene.objects
            # JPEG at quality 95: a few grey levels apart
            assert np.abs(pixels.astype(int) - scene.image).mean() < 4
            names = [digits.DIGIT_CLASSES[labels[index]] for index in used[record.image_id]]
            assert [one.class_name for one in record.objects] == names


def test_scenes_vary(folder):
    records = read_voc(folder, "train", digits.DIGIT_CLASSES).records
    counts = np.bincount([len(record.objects) for record in records], minlength=5)
    assert len(counts) == 5
    assert (counts > 0).all()
    assert len({(record.width, record.height) for record in records}) > 30
    boxes = np.concatenate([record.boxes for record in records])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    assert min(width.min(), height.min()) >= 22
    assert np.log2((width * height).max() / (width * height).min()) > 4  # octaves of area
    assert (width / height).max() / (width / height).min() > 2
    difficult = [one.difficult for record in records for one in record.objects]
    assert 0 < np.mean(difficult) < 0.2


def test_boxes_are_tight_on_the_ink():
    paint = digits_render.Paint(contrast=90.0, opacity=1.0, angle_deg=0.0, shear=0.0)
    ring = np.ones((5, 5), np.float32)
    ring[2, 2] = 0
    shape = digits_render.mask(ring, 50, 30, paint)
    assert abs(shape.shape[1] - 50) <= 4  # the soft edge may take a little
    assert abs(shape.shape[0] - 30) <= 4
    assert all(edge.max() > 0.5 for edge in (shape[0], shape[-1], shape[:, 0], shape[:, -1]))
    assert shape[shape.shape[0] // 2, shape.shape[1] // 2] == 0


def test_paint_changes_only_what_is_under_the_mask_and_by_the_contrast():
    canvas = np.full((20, 30, 3), 100, np.uint8)
    paint = digits_render.Paint(contrast=60.0, opacity=1.0, angle_deg=0.0, shear=0.0)
    shape = np.ones((4, 6), np.float32)
    digits_render.paint_over(canvas, shape, 10, 5, paint, np.random.default_rng(0))
    inside = canvas[5:9, 10:16].reshape(-1, 3) @ digits_render.LUMA
    assert abs(abs(inside.mean() - 100) - 60) < 6
    canvas[5:9, 10:16] = 100
    assert (canvas == 100).all()


@pytest.mark.parametrize("corner", [(-3, -2), (27, 18), (-6, 0), (30, 0), (33, 0), (0, -99)])
def test_paint_is_cut_at_the_edges(corner):
    canvas = np.full((20, 30, 3), 100, np.uint8)
    paint = digits_render.Paint(contrast=60.0, opacity=1.0, angle_deg=0.0, shear=0.0)
    shape = np.ones((4, 6), np.float32)
    digits_render.paint_over(canvas, shape, *corner, paint, np.random.default_rng(0))
    x, y = corner
    changed = max(0, min(30, x + 6) - max(0, x)) * max(0, min(20, y + 4) - max(0, y))
    assert (canvas != 100).any(axis=2).sum() == changed


def test_overlap_is_bounded_and_a_covered_digit_difficult():
    hidden = 0
    for number in range(150):
        scene = digits.scene(0, "train", number)
        for index, one in enumerate(scene.objects):
            others = scene.objects[index + 1 :]
            if any(_overlap(one.box, other.box) > 0.5 for other in others):
                hidden += one.difficult
    assert hidden > 0


def test_no_digit_may_hide_another():
    owner = np.full((30, 30), -1, np.int8)
    owner[10:20, 10:20] = 0
    rng = np.random.default_rng(0)
    whole = np.ones((30, 30), np.float32)  # its only place hides all of digit 0
    assert digits_scenes._find_place(owner, [100], whole, rng) is None
    bottom = np.ones((14, 30), np.float32)  # from row 16 on, it leaves 6 rows of 10 visible
    assert digits_scenes._find_place(owner, [100], bottom, rng) is not None
    inside = np.ones((5, 5), np.float32)
    owner[:] = 0  # it could only lie wholly on digit 0
    assert digits_scenes._find_place(owner, [900], inside, rng) is None


def _overlap(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0, width) * max(0, height) / ((box[2] - box[0]) * (box[3] - box[1]))


def test_pretraining_crops():
    crops, labels = digits.pretraining_crops(0, 300, 48)
    assert crops.shape == (300, 48, 48, 3)
    assert {*labels.tolist()} == {*range(11)}
    assert 0.08 < (labels == digits.BACKGROUND).mean() < 0.25
    again, same = digits.pretraining_crops(0, 300, 48)
    assert np.array_equal(crops, again)
    assert np.array_equal(labels, same)
    assert not np.array_equal(crops, digits.pretraining_crops(1, 300, 48)[0])
    nothing, all_background = digits.pretraining_crops(0, 10, 32, background_share=1.0)
    assert (all_background == digits.BACKGROUND).all()
    assert nothing.std() > 10


def test_crops_come_from_the_pretraining_pool_only(monkeypatch):
    scans, _ = digits_scans.scans()
    seen = []
    original = digits_render.ink
    monkeypatch.setattr(
        digits_render, "ink", lambda scan: seen.append(scan.tobytes()) or original(scan)
    )
    digits.pretraining_crops(5, 1, 32)
    allowed = {scans[index].tobytes() for index in digits.split_digits(5)["pretrain"]}
    assert seen
    assert {*seen} <= allowed
