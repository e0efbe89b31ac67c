import io
import threading

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pipeline import images
from pipeline.images import UndecodableImage


def encoded(pixels, kind="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def one_pixel(mode, colour, kind="PNG", **options):
    return encoded(Image.new(mode, (1, 1), colour), kind, **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (one_pixel("RGB", (10, 20, 30)), [10, 20, 30]),
        (one_pixel("L", 77), [77, 77, 77]),
        (one_pixel("1", 1), [255, 255, 255]),
        (one_pixel("RGBA", (10, 20, 30, 255)), [10, 20, 30]),
        # 51/255 = 1/5 of black over white: 4/5 of 255
        (one_pixel("RGBA", (0, 0, 0, 51)), [204, 204, 204]),
        (one_pixel("RGBA", (10, 20, 30, 0)), [255, 255, 255]),
        (one_pixel("LA", (0, 51)), [204, 204, 204]),
        (one_pixel("RGB", (10, 20, 30), transparency=(10, 20, 30)), [255, 255, 255]),
        # CMYK (0, 0, 0, 255) is black ink only
        (one_pixel("CMYK", (0, 0, 0, 255), "TIFF"), [0, 0, 0]),
        (one_pixel("CMYK", (255, 0, 0, 0), "TIFF"), [0, 255, 255]),
        # 0x1234: the high byte is 0x12
        (encoded(np.array([[0x1234]], np.uint16)), [0x12] * 3),
        (b"P5 1 1 65535 \x12\x34", [0x12] * 3),
    ],
)
def test_every_pixel_format_has_a_rule(data, expected):
    assert images.decode(data).tolist() == [[expected]]


def test_palette_is_looked_up_and_its_transparent_entries_become_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([1, 2, 3, 40, 50, 60])
    palette.putdata([0, 1])
    assert images.decode(encoded(palette)).tolist() == [[[1, 2, 3], [40, 50, 60]]]
    # bytes instead of one index is the form that Pillow warns about
    data = encoded(palette, transparency=b"\x00\xff")
    assert images.decode(data).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("L", (2, 2), value) for value in (30, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.decode(data).tolist() == [[[30] * 3] * 2] * 2


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees": 3x2 would become 2x3
    data = encoded(Image.new("RGB", (3, 2)), "JPEG", exif=exif)
    assert images.decode(data).shape == (2, 3, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP"])
def test_a_truncated_file_is_undecodable_never_half_grey(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, kind)
    with pytest.raises(UndecodableImage, match=r"damaged|not an image"):
        images.decode(data[: len(data) // 2])


def test_size_is_refused_from_the_header_before_decoding():
    data = bytearray(one_pixel("L", 0))
    data[16:24] = (20_000).to_bytes(4, "big") * 2  # IHDR's width and height
    with pytest.raises(UndecodableImage, match="not an image"):  # its checksum is wrong now
        images.decode(bytes(data))
    with pytest.raises(UndecodableImage, match="30x40 is 1,200 pixels, more than the 1,199"):
        images.decode(encoded(Image.new("L", (30, 40))), max_pixels=1199)
    assert images.decode(encoded(Image.new("L", (30, 40))), max_pixels=1200).shape == (40, 30, 3)


def test_a_decompression_bomb_leaks_no_warning():
    bomb = b"P5 10000 10000 255 "  # 100 million: Pillow warns from 89 million on
    with pytest.raises(UndecodableImage, match="10000x10000 is 100,000,000 pixels"):
        images.decode(bomb)
    with pytest.raises(UndecodableImage, match="too many pixels by its header: 1,000,000,000"):
        images.decode(b"P5 100000 10000 255 ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image in JPEG"),
        (b"<svg/>", "not an image in JPEG"),
        # EPS is a program for Ghostscript
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (encoded(Image.new("F", (1, 1), 0.5), "TIFF"), "floating-point pixels"),
        (encoded(np.array([[70_000]], np.int32), "TIFF"), "outside 16 bits"),
    ],
)
def test_what_has_no_rule_is_refused_with_its_reason(data, reason):
    with pytest.raises(UndecodableImage, match=reason):
        images.decode(data)


SAMPLES = [
    encoded(np.arange(192, dtype=np.uint8).reshape(8, 8, 3), kind)
    for kind in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP")
]


@given(st.sampled_from(SAMPLES), st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_gives_pixels_or_a_reason(sample, place, value):
    data = bytearray(sample)
    data[place % len(data)] = value
    try:
        pixels = images.decode(bytes(data), max_pixels=10_000)
    except UndecodableImage:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


def test_odd_metadata_leaks_no_warning():
    data = bytearray(encoded(np.arange(192, dtype=np.uint8).reshape(8, 8, 3), "TIFF"))
    data[8] = 255  # the number of tags: Pillow's TIFF reader warns, the second time while decoding
    try:
        images.decode(bytes(data))
    except UndecodableImage:
        pytest.fail("the pixels are intact")


def test_threads_decode_at_the_same_time():
    data, found = encoded(Image.new("L", (5, 7), 9)), []
    threads = [
        threading.Thread(target=lambda: found.append(images.decode(data).sum())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5 * 7 * 3 * 9] * 8


def test_read_size_needs_the_header_only(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(encoded(Image.new("L", (30, 40)), "BMP")[:60])
    with pytest.raises(UndecodableImage):
        images.decode(path.read_bytes())
    assert images.read_size(path) == (30, 40)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300))
def test_shorter_side_is_exact_and_the_longer_one_rounded(width, height, short_side_px):
    new = images.resized_size(width, height, short_side_px)
    assert min(new) == short_side_px
    assert max(new) == round(max(width, height) * short_side_px / min(width, height))
    assert (new[0] >= new[1]) == (width >= height) or new[0] == new[1]


def test_resize_returns_each_axis_true_factor():
    pixels, factors = images.resize(np.zeros((375, 500, 3), np.uint8), 688)
    assert pixels.shape == (688, 917, 3)  # 500 * 688 / 375 = 917.3
    assert factors == (917 / 500, 688 / 375)
    assert pixels.dtype == np.float32


def test_clamp_holds_the_longer_side():
    assert images.resized_size(1000, 100, 480, max_side_px=1200) == (1200, 120)
    assert images.resized_size(100, 1000, 480, max_side_px=1200) == (120, 1200)
    assert images.resized_size(5000, 1, 480, max_side_px=1200) == (1200, 1)


def test_resize_is_bilinear_between_pixel_centres_without_antialiasing():
    row = np.array([[0, 100]], np.uint8)[:, :, None].repeat(3, axis=2)
    pixels, _ = images.resize(row, 2)
    # new centres .25 .75 1.25 1.75 of the old pixels, whose own are at .5 and 1.5
    assert pixels[0, :, 0].tolist() == [0, 25, 75, 100]
    stripes = np.zeros((4, 4, 3), np.uint8)
    stripes[:, 1] = 200
    # halving averages two of four: antialiasing over more would give another number
    assert images.resize(stripes, 2)[0][0, :, 0].tolist() == [100, 0]


def test_resize_equals_opencv_on_floats_not_on_bytes():
    noise = np.random.default_rng(1).integers(0, 255, (31, 47, 3), dtype=np.uint8)
    pixels, _ = images.resize(noise, 53)
    assert np.array_equal(pixels, cv2.resize(noise.astype(np.float32), (80, 53)))
    assert not np.array_equal(pixels, np.round(pixels))


def test_an_image_of_the_right_size_is_unchanged():
    noise = np.random.default_rng(2).integers(0, 255, (4, 9, 3), dtype=np.uint8)
    pixels, factors = images.resize(noise, 4)
    assert np.array_equal(pixels, noise)
    assert factors == (1.0, 1.0)


FILL = (7.0, 8.0, 9.0)


def counting(rows, cols):
    return np.arange(rows * cols * 3, dtype=np.uint8).reshape(rows, cols, 3)


def test_a_window_of_the_square_inside_the_context_is_cut_out():
    # 6 px with 1 of context leave 4: a window of 4x4 grows by 6/4, one pixel to each side
    image = counting(9, 9)
    warped = images.warp(image, (3, 2, 7, 6), 6, 1, fill=FILL)
    assert np.array_equal(warped, image[1:7, 2:8].astype(np.float32))
    large = np.random.default_rng(0).integers(0, 255, (240, 250, 3), dtype=np.uint8)
    # 227 - 2*16 = 195
    warped = images.warp(large, (20, 16, 215, 211), fill=FILL)
    assert np.array_equal(warped, large[0:227, 4:231].astype(np.float32))


def test_context_outside_the_image_is_the_fill():
    image = counting(9, 9)
    warped = images.warp(image, (0, 0, 4, 4), 6, 1, fill=FILL)  # wants -1 to 5
    assert (warped[0] == FILL).all()
    assert (warped[:, 0] == FILL).all()
    assert np.array_equal(warped[1:, 1:], image[:5, :5].astype(np.float32))
    warped = images.warp(image, (5, 5, 9, 9), 6, 1, fill=FILL)  # wants 4 to 10
    assert (warped[5] == FILL).all()
    assert (warped[:, 5] == FILL).all()
    assert np.array_equal(warped[:5, :5], image[4:9, 4:9].astype(np.float32))


def test_the_part_on_the_image_goes_to_its_proportional_place():
    # a window of 8x4 at the left edge wants 12x6 from (-2, 0): halved across, as it is down; a
    # sixth of its width is off the image
    image = np.full((9, 30, 3), 100, np.uint8)
    image[:, 4:] = 200
    warped = images.warp(image, (0, 1, 8, 5), 6, 1, fill=FILL)
    assert (warped[:, 0] == FILL).all()
    assert warped[:, 1:, 0].tolist() == [[100, 100, 200, 200, 200]] * 6


def test_sides_are_rounded_to_whole_pixels_and_never_to_none():
    image = counting(9, 9)
    # 1x1 grows to 1.5x1.5 about 4.5: from 3.75 to 5.25, rounded 4 to 5
    warped = images.warp(image, (4, 4, 5, 5), 6, 1, fill=FILL)
    np.testing.assert_allclose(warped, np.broadcast_to(image[4, 4], (6, 6, 3)), rtol=1e-6)
    assert np.array_equal(images.warp(image, (4.2, 4.2, 4.3, 4.3), 6, 1, fill=FILL), warped)


def test_a_sliver_at_the_edge_keeps_a_pixel_of_the_image():
    image = counting(9, 9)
    # 0.2 px at the far edges grow to 0.3, from 8.75, which would round to the pixel behind the last
    warped = images.warp(image, (8.8, 8.8, 9, 9), 6, 1, fill=FILL)
    np.testing.assert_allclose(warped, np.broadcast_to(image[8, 8], (6, 6, 3)), rtol=1e-6)
    # -2 to 0.2 grows to -2.55 to 0.75, rounded -3 to 1: the last of four pixels is on the image
    warped = images.warp(image, (-2, 0, 0.2, 4), 6, 1, fill=FILL)
    assert (warped[1:, :4] == FILL).all()
    assert np.array_equal(warped[1:, 4:], image[:5, [0, 0]].astype(np.float32))


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.integers(1, 40),
    st.integers(0, 10),
)
@example(1, 1, (0.0, 1.0, 1.0, 0.75), 1, 1)
def test_any_window_on_the_image_is_warped(rows, cols, places, inside, context_px):
    x_min, x_max = sorted(place * cols for place in places[:2])
    y_min, y_max = sorted(place * rows for place in places[2:])
    window = (x_min, y_min, x_max, y_max)
    if x_min == x_max or y_min == y_max or x_min >= cols or y_min >= rows:
        return
    image = np.full((rows, cols, 3), 50, np.uint8)
    side_px = inside + 2 * context_px
    if x_max <= 0 or y_max <= 0:
        return
    warped = images.warp(image, window, side_px, context_px, fill=FILL)
    assert warped.shape == (side_px, side_px, 3)
    seen = np.isclose(warped[..., 0], 50)
    assert seen.any()
    assert (warped[~seen] == FILL).all()


@pytest.mark.parametrize("window", [(3, 3, 3, 5), (5, 1, 4, 2), (9, 0, 12, 4), (-4, 0, 0, 4)])
def test_a_window_off_the_image_or_empty_is_refused(window):
    with pytest.raises(ValueError, match="is not on 0 to 9"):
        images.warp(counting(9, 9), window, 6, 1, fill=FILL)
    with pytest.raises(ValueError, match="6 px leave no pixel between borders of 3 px"):
        images.warp(counting(9, 9), (0, 0, 4, 4), 6, 3, fill=FILL)
