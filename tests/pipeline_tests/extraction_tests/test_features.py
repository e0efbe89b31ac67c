"""One image's windows to vectors: the joints between the rooms."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_max_pool2d

from pipeline import networks
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.features import (
    Resized,
    distinct_cells,
    feature_maps,
    narrow_maps,
    pool_cells,
    require_fit,
    resize_to_scales,
    scale_of,
    window_vectors,
)
from pipeline.images import UndecodableImage, warp


@pytest.fixture(scope="module")
def network():
    return networks.load("zf5", width=0.0625, fc_units=8, levels=(1,), seed=3)


SETTINGS = Features(scales=(140, 280), levels=(1,))
IMAGE = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)


def test_only_the_scales_that_a_window_asks_for(network):
    windows = np.array([[0.0, 0, 30, 30], [50, 50, 55, 66]])
    resized, places = resize_to_scales(IMAGE, windows, network, SETTINGS)
    assert [one.scale_px for one in resized] == [280]
    assert resized[0].pixels.shape == (3, 280, 360)
    assert resized[0].factors == (4, 4)
    assert places.tolist() == [0, 0]


def test_places_point_into_the_list(network):
    windows = np.array([[0.0, 0, 30, 30], [0, 0, 90, 70], [1, 1, 31, 31]])
    for scales in ((140, 280), (280, 140), (30, 280, 140)):
        settings = Features(scales=scales, levels=(1,))
        resized, places = resize_to_scales(IMAGE, windows, network, settings)
        assert len(resized) == 2
        assert scale_of(resized, places).tolist() == [280, 140, 280]
    assert scale_of(resized, places).dtype == np.int16


def test_the_recipe_says_how_large_a_window_should_be(network):
    # 30x30 px of 90x70 are 60x60 at scale 140 and 120x120 at scale 280
    windows = np.array([[0.0, 0, 30, 30]])
    for reference_side_px, scale in ((70, 140), (110, 280)):
        settings = SETTINGS.model_copy(update={"reference_side_px": reference_side_px})
        resized, _ = resize_to_scales(IMAGE, windows, network, settings)
        assert [one.scale_px for one in resized] == [scale]


def test_no_windows_ask_for_no_scale(network):
    resized, places = resize_to_scales(IMAGE, np.zeros((0, 4)), network, SETTINGS)
    assert (resized, places.tolist()) == ([], [])
    assert distinct_cells(resized, places, np.zeros((0, 4)), network).count == 0
    for layer, length in (("pool5", 16), ("fc7", 8)):
        settings = SETTINGS.model_copy(update={"layer": layer})
        vectors, scales = window_vectors(IMAGE, np.zeros((0, 4)), network, settings)
        assert (vectors.shape, vectors.dtype, scales.shape) == ((0, length), np.float16, (0,))


def test_mirrored_is_the_mirror_image_with_its_windows_turned(network):
    windows = np.array([[0.0, 0, 30, 30], [50, 10, 85, 66], [0, 0, 90, 70]])
    turned = np.array([[60.0, 0, 90, 30], [5, 10, 40, 66], [0, 0, 90, 70]])
    mirrored = SETTINGS.model_copy(update={"mirrored": True})
    found, scales = window_vectors(IMAGE, windows, network, mirrored)
    expected, same = window_vectors(IMAGE[:, ::-1].copy(), turned, network, SETTINGS)
    assert found.tolist() == expected.tolist()
    assert scales.tolist() == same.tolist()
    assert found.tolist() != window_vectors(IMAGE, windows, network, SETTINGS)[0].tolist()


@pytest.mark.parametrize("layer", ["pool5", "fc7"])
def test_of_every_scale_the_largest_number_is_kept(network, layer):
    windows = np.array([[0.0, 0, 30, 30], [50, 10, 85, 66], [0, 0, 90, 70], [0, 0, 30, 30]])
    every = Features(scales=(140, 280, 210), levels=(1,), scale_rule="max", layer=layer)
    found, scales = window_vectors(IMAGE, windows, network, every)
    assert scales.tolist() == [0] * 4
    pooled = [
        window_vectors(IMAGE, windows, network, Features(scales=(each,), levels=(1,)))[0]
        for each in every.scales
    ]
    largest = np.max(pooled, axis=0)
    assert any((largest != each).any() for each in pooled)
    if layer == "pool5":
        assert found.tolist() == largest.tolist()
    else:
        wide = torch.from_numpy(largest.astype(np.float32))
        np.testing.assert_allclose(found, network.fc(wide, "fc7"), rtol=2e-2, atol=2e-3)
    alone = Features(scales=(140,), levels=(1,), scale_rule="max", layer=layer)
    one, _ = window_vectors(IMAGE, windows, network, alone)
    plain = alone.model_copy(update={"scale_rule": "area"})
    assert one.tolist() == window_vectors(IMAGE, windows, network, plain)[0].tolist()
    nothing = window_vectors(IMAGE, np.zeros((0, 4)), network, every)[0]
    assert len(nothing) == 0


@pytest.mark.parametrize("layer", ["pool5", "fc6"])
def test_warped_windows_go_through_the_network_one_by_one(network, layer):
    x_min = np.arange(20.0)
    windows = np.stack([x_min, x_min / 2, x_min + 40, x_min / 2 + 25.5], axis=1)
    settings = Features(mode="warp", levels=(1,), layer=layer, vector_dtype="float32")
    found, scales = window_vectors(IMAGE, windows, network, settings)
    assert scales.tolist() == [227] * 20
    for row, window in enumerate(windows):
        pixels = warp(IMAGE, window, fill=network.preprocessing.fill)
        (feature_map,) = network(network.preprocessing.apply(pixels)[None])
        pooled = adaptive_max_pool2d(feature_map, 1).flatten()
        expected = network.fc(pooled[None], layer)[0]
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)
    assert len(window_vectors(IMAGE, np.zeros((0, 4)), network, settings)[0]) == 0


def test_the_clamp_of_the_longer_side_is_in_the_factors(network):
    settings = Features(scales=(280,), max_side_px=180, levels=(1,))
    (one,), _ = resize_to_scales(IMAGE, np.array([[0.0, 0, 9, 9]]), network, settings)
    assert one.pixels.shape == (3, 140, 180)
    assert one.factors == (2, 2)
    assert one.scale_px == 280  # the scale by name; the factors are the truth


def test_what_would_grow_or_shrink_too_far_is_refused(network):
    windows = np.array([[0.0, 0, 9, 9]])
    with pytest.raises(UndecodableImage, match="become 360×280, more than 100,000"):
        resize_to_scales(IMAGE, windows, network, Features(scales=(280,), max_pixels=100_000))
    with pytest.raises(UndecodableImage, match="at scale 20: an image of 26x20 px leaves no cell"):
        resize_to_scales(IMAGE, windows, network, Features(scales=(20,)))


def test_each_axis_has_its_own_factor_and_each_window_its_map(network):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 200, 300, generator=generator) for _ in range(2)]
    # 300 px for 100 columns, 200 px for 200 rows
    resized = [Resized(140, maps[0], (3.0, 1.0)), Resized(280, maps[1], (3.0, 1.0))]
    # in resized pixels 0..98 by 100..198, in cells: floor((0 - 13.5)/16 + ½) = -1 and
    # ceil((97 - 26.5)/16 - ½) = 4; floor((100 - 13.5)/16 + ½) = 5, ceil((197 - 26.5)/16 - ½) = 11,
    # which is the first row below the map of 200 px
    windows = np.array([[0, 100, 98 / 3, 198]] * 3)
    distinct = distinct_cells(resized, np.array([1, 0, 1]), windows, network)
    assert [cells.tolist() for cells in distinct.cells] == [[[0, 5, 5, 11]], [[0, 5, 5, 11]]]
    assert distinct.rows.tolist() == [1, 0, 1]
    both = [feature_maps([one], network)[0] for one in resized]
    found = pool_cells(both, distinct.cells, (1,))
    for row, place in enumerate((0, 1)):
        (feature_map,) = network(maps[place][None])
        expected = adaptive_max_pool2d(feature_map[:, 5:11, 0:5], 1).flatten()
        assert torch.equal(found[row], expected)
    assert not torch.equal(found[0], found[1])


def test_windows_on_the_same_cells_are_pooled_once(network):
    # at 280 px, four times as large; cells begin at floor((4·x - 13.5)/16 + ½), which is -1 for
    # x = 0 and 0 for x = 2 and 5, and so 0 for all three; 9 gives 1
    windows = np.array([[x, 0, 60.0, 60] for x in (0, 9, 2, 5, 9)])
    resized, places = resize_to_scales(IMAGE, windows, network, SETTINGS)
    distinct = distinct_cells(resized, places, windows, network)
    (cells,) = distinct.cells
    assert sorted(cells[:, 0].tolist()) == [0, 1]
    assert cells[distinct.rows, 0].tolist() == [0, 1, 0, 0, 1]
    assert distinct.count == 2


def test_different_windows_stay_in_their_order(network):
    windows = np.array([[x, 0, 60.0, 60] for x in (20, 0, 10)])
    resized, places = resize_to_scales(IMAGE, windows, network, SETTINGS)
    distinct = distinct_cells(resized, places, windows, network)
    assert distinct.rows.tolist() == [0, 1, 2]  # nothing has to be moved when they are written


def test_images_of_one_size_give_what_each_gives_alone(network):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 70, 90, generator=generator) for _ in range(3)]
    together = feature_maps([Resized(70, one, (1.0, 1.0)) for one in maps], network)
    for one, found in zip(maps, together, strict=True):
        torch.testing.assert_close(found, network(one[None])[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_narrowing_before_pooling_gives_the_bits_of_narrowing_after(dtype):
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(5, 11, 13, generator=generator) * 300
    cells = np.array([[0, 0, 13, 11], [2, 3, 5, 4], [7, 1, 12, 9]], np.int32)
    narrow, fit = narrow_maps([wide], dtype)
    assert fit.tolist() == [True]
    expected = pool_cells([wide], [cells], (3, 1)).to(dtype)
    assert torch.equal(pool_cells(narrow, [cells], (3, 1)), expected)


def test_a_number_that_does_not_fit_is_named():
    _, fit = narrow_maps([torch.ones(1, 1, 1), torch.full((1, 1, 1), 65_520.0)], torch.float16)
    assert fit.tolist() == [True, False]
    require_fit("a", torch.tensor([[65_519.0]]), torch.float16)  # rounds to 65,504, the largest
    with pytest.raises(InputError, match="image a: a feature of 65520 does not fit float16"):
        require_fit("a", torch.tensor([[65_520.0]]), torch.float16)
