"""Crops of image files: what they look like, and on what that depends."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config import Pretrain
from pipeline.errors import InputError, RecipeError
from pipeline.pretraining import CropImages, FileImages, write_table
from pipeline.pretraining.colour import Colour
from pipeline.pretraining.files import Views

PLAIN = Views(4, 4, "five", flips=False, colour=0.0)


@pytest.fixture
def numbered(tmp_path):
    """An image of 6x4 px whose red tells the column, green the row; and its table."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = 10 * np.arange(6)
    pixels[..., 1] = 10 * np.arange(4)[:, None]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_table(tmp_path / "t.parquet", [tmp_path / "a.png"], [7])
    return tmp_path / "t.parquet"


def corners(images, epochs):
    """Column and row of each epoch's crop, and whether it is mirrored."""
    seen = set()
    for epoch in range(epochs):
        crop = images.varied(np.array([0]), epoch).pixels[0]
        seen.add((*(crop[..., :2].min(axis=(0, 1)) / 10).astype(int).tolist(), crop[0, 0, 0] > 30))
    return seen


def test_crops_lie_in_the_centre_and_corners_of_the_entire_image(numbered):
    five = FileImages(numbered, replace(PLAIN, side_px=2))
    assert five.labels.tolist() == [7]
    centre = five.plain(np.array([0])).pixels[0]
    assert centre[..., 0].tolist() == [[20, 30], [20, 30]]
    assert centre[..., 1].tolist() == [[10, 10], [20, 20]]
    places = {(x, y) for x, y, _ in corners(five, 60)}
    assert places == {(2, 1), (0, 0), (4, 0), (0, 2), (4, 2)}
    anywhere = FileImages(numbered, replace(PLAIN, side_px=2, places="anywhere"))
    places = {(x, y) for x, y, _ in corners(anywhere, 150)}
    assert places == {(x, y) for x in range(5) for y in range(3)}  # 15 whole pixels


def test_half_the_crops_are_mirrored(numbered):
    images = FileImages(numbered, replace(PLAIN, flips=True), seed=1)
    mirrored = [images.varied(np.array([0]), epoch).pixels[0] for epoch in range(60)]
    count = sum(bool(crop[0, 0, 0] > crop[0, -1, 0]) for crop in mirrored)
    assert 15 < count < 45
    never = FileImages(numbered, PLAIN, seed=1)
    for epoch in range(20):
        crop = never.varied(np.array([0]), epoch).pixels[0]
        assert crop[0, 0, 0] < crop[0, -1, 0]


def test_a_crop_depends_on_seed_epoch_and_image_alone(few):
    views = Views(48, 56, "anywhere", flips=True, colour=0.1)
    colours = Colour(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.1, 0.1, 0.1))

    def crops(chosen, epoch, seed=0, threads=1):
        images = FileImages(few, views, seed=seed, threads=threads)
        images.colours = colours
        return images.varied(np.array(chosen), epoch).pixels

    first = crops([3, 5, 9], 2)
    assert np.array_equal(crops([9, 5, 3], 2, threads=3), first[::-1])
    assert np.array_equal(crops([5], 2), first[1:2])
    for other in (crops([3, 5, 9], 1), crops([3, 5, 9], 2, seed=1)):
        assert all(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_one_setting_does_not_move_another_ones_crops(numbered):
    images = FileImages(numbered, replace(PLAIN, side_px=2))
    mirrored = FileImages(numbered, replace(PLAIN, side_px=2, flips=True))
    for epoch in range(10):
        one, other = (each.varied(np.array([0]), epoch).pixels[0] for each in (images, mirrored))
        assert np.array_equal(np.sort(one[0, :, 0]), np.sort(other[0, :, 0]))


def test_colours_are_shifted_as_a_whole(numbered):
    images = FileImages(numbered, replace(PLAIN, colour=0.1))
    before = images.varied(np.array([0]), 4).pixels[0]
    images.colours = Colour(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.2, 0.0, 0.4))
    shifts = (images.varied(np.array([0]), 4).pixels[0] - before).reshape(-1, 3)
    assert np.ptp(shifts, axis=0).max() < 1e-4
    assert (shifts[0] != 0).tolist() == [True, False, True]
    assert np.array_equal(images.plain(np.array([0])).pixels, images.plain(np.array([0])).pixels)


def test_an_image_is_resized_before(tmp_path):
    Image.new("RGB", (120, 90), (9, 9, 9)).save(tmp_path / "a.png")
    write_table(tmp_path / "t", [tmp_path / "a.png"], [0])
    assert FileImages(tmp_path / "t", Views(30, 30, "five", False, 0.0)).plain(
        np.array([0])
    ).pixels.shape == (1, 30, 30, 3)


def test_the_part_that_is_meant(numbered):
    file = numbered.parent / "a.png"
    write_table(numbered, [file, file, file], [0, 1, 2], [[1, 0, 3, 2], [0, 0, 9, 2], [2, 1, 2, 3]])
    images = FileImages(numbered, replace(PLAIN, side_px=2, resized_px=2))
    batch = images.plain(np.array([0, 1, 2]))
    assert batch.indices.tolist() == [0]
    assert batch.pixels[0, :, :, 0].tolist() == [[10, 20], [10, 20]]
    assert "is not in the image of 6x4 px" in batch.unreadable[1]
    assert 2 in batch.unreadable


def test_what_cannot_be_read_is_told_and_the_rest_is_there(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"none")
    Image.new("RGB", (1, 60)).save(tmp_path / "long.png")
    names = ["bad.png", "good.png", "gone.png", "long.png"]
    write_table(tmp_path / "t", [tmp_path / name for name in names], [0, 1, 2, 0])
    images = FileImages(tmp_path / "t", PLAIN, threads=2, max_pixels=500)
    for batch in (images.varied(np.arange(4), 0), images.plain(np.arange(4))):
        assert batch.indices.tolist() == [1]
        assert batch.pixels.shape == (1, 4, 4, 3)
        assert [*batch.unreadable] == [0, 2, 3]
        assert batch.unreadable[0].startswith("not an image in JPEG")
        assert batch.unreadable[2] == "No such file or directory"
        assert batch.unreadable[3] == (
            "1x60 px would be 4x240 at a shorter side of 4, more than the 500 pixels allowed"
        )
    assert images.name(2) == str(tmp_path / "gone.png")


def test_tables_that_are_none(tmp_path):
    def read(name="t"):
        return FileImages(tmp_path / name, PLAIN)

    with pytest.raises(InputError, match="cannot be read"):
        read("absent")
    (tmp_path / "t").write_bytes(b"none")
    with pytest.raises(InputError, match="cannot be read"):
        read()
    wrong = (
        {"file": ["a"]},
        {"file": ["a"], "label": ["cat"]},
        {"file": ["a"], "label": pa.array([None], pa.int32())},
    )
    for columns in wrong:
        pq.write_table(pa.table(columns), tmp_path / "t")
        with pytest.raises(InputError, match=r"needs file \(string\) and label \(integer\)"):
            read()
    write_table(tmp_path / "t", [], [])
    with pytest.raises(InputError, match="lists no image"):
        read()


def test_crops_must_fit_in_the_images():
    with pytest.raises(RecipeError, match=r"crops of 300 px .* shorter side is 256 px"):
        Views.of(Pretrain(sides_px=(224, 300)))
    assert Views.of(Pretrain(sides_px=(180, 224))).side_px == 224


def test_crops_in_memory():
    crops = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    images = CropImages(crops, np.array([1, 0]), flips=True, seed=2)
    seen = {images.varied(np.array([1]), epoch).pixels.tobytes() for epoch in range(12)}
    assert seen == {crops[1].tobytes(), crops[1, :, ::-1].tobytes()}
    assert np.array_equal(images.plain(np.array([1, 0])).pixels, crops[::-1])
    assert images.name(1) == "crop 1"
    assert crops[0, 0, 0, 0] == 0  # the crops themselves are not mirrored
