"""The SPP vector against its definition and against torch's own adaptive pooling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import max_pool2d

from pipeline.spp import SpatialPyramidPooling, bin_edges, empty_vectors, pool, pooling
from pipeline.spp.pooling import BITS
from pipeline.spp.range_max import pool_range_max

COUNTED = torch.arange(1.0, 17).reshape(1, 4, 4)
WHOLE = [[0, 0, 4, 4]]


@pytest.mark.parametrize(
    ("length", "level", "edges"),
    [
        (13, 6, [[0, 3], [2, 5], [4, 7], [6, 9], [8, 11], [10, 13]]),
        (10, 6, [[0, 2], [1, 4], [3, 5], [5, 7], [6, 9], [8, 10]]),
        (12, 6, [[0, 2], [2, 4], [4, 6], [6, 8], [8, 10], [10, 12]]),
        (1, 3, [[0, 1], [0, 1], [0, 1]]),
        (2, 3, [[0, 1], [0, 2], [1, 2]]),
        (7, 1, [[0, 7]]),
    ],
)
def test_bin_edges_by_hand(length, level, edges):
    assert bin_edges(length, level).tolist() == edges


@given(st.integers(1, 60), st.integers(1, 12))
def test_bins_cover_everything_and_none_is_empty(length, level):
    edges = bin_edges(length, level)
    assert (edges[:, 0] < edges[:, 1]).all()
    assert set().union(*(range(a, b) for a, b in edges)) == set(range(length))
    assert edges.tolist() == edges[np.lexsort(edges.T)].tolist()
    assert (length - edges[::-1, ::-1]).tolist() == edges.tolist()  # symmetric


@pytest.mark.parametrize(("length", "level"), [(0, 3), (3, 0), (-1, 2)])
def test_no_cells_or_no_bins(length, level):
    with pytest.raises(ValueError, match=f"cannot cut {length} cells into {level} bins"):
        bin_edges(length, level)


@pytest.mark.parametrize("differentiable", [False, True])
def test_four_by_four(differentiable):
    found = pool(COUNTED.clone().requires_grad_(differentiable), WHOLE, (1, 2, 3))
    assert found.tolist() == [[16, *(6, 8, 14, 16), *(6, 7, 8, 10, 11, 12, 14, 15, 16)]]
    found = pool(COUNTED, WHOLE, (3, 1, 2))  # levels in the order given
    assert found.tolist() == [[*(6, 7, 8, 10, 11, 12, 14, 15, 16), 16, *(6, 8, 14, 16)]]


def test_channels_run_fastest():
    two = torch.cat([COUNTED, -COUNTED])
    assert pool(two, WHOLE, (2,)).tolist() == [[6, -1, 8, -3, 14, -9, 16, -11]]
    assert pool(two, WHOLE, (6, 3, 2, 1)).shape == (1, 50 * 2)


def test_windows_are_columns_then_rows():
    # columns 1 and 2 of row 3: 14 and 15
    assert pool(COUNTED, [[1, 3, 3, 4], [3, 1, 4, 3]], (1,)).tolist() == [[15], [12]]
    assert pool(COUNTED, [[1, 3, 3, 4]], (2,)).tolist() == [[14, 15, 14, 15]]


def test_a_window_of_one_cell_fills_every_bin():
    assert pool(COUNTED, [[2, 1, 3, 2]], (6, 3)).tolist() == [[7] * 45]


def test_minima_are_real():
    assert pool(-COUNTED, WHOLE, (2,)).tolist() == [[-1, -3, -9, -11]]
    lowest = torch.full((1, 2, 2), -torch.inf)
    assert pool(lowest, [[0, 0, 2, 2]], (1,)).tolist() == [[-torch.inf]]


@st.composite
def maps_and_cells(draw):
    rows, cols, channels = (draw(st.integers(1, most)) for most in (19, 19, 5))
    x = st.integers(0, cols - 1).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, cols)))
    y = st.integers(0, rows - 1).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, rows)))
    spans = draw(st.lists(st.tuples(x, y), min_size=1, max_size=6))
    seed = draw(st.integers(0, 2**31))
    values = torch.randn(channels, rows, cols, generator=torch.Generator().manual_seed(seed))
    return values, np.array([[x0, y0, x1, y1] for (x0, x1), (y0, y1) in spans], np.int32)


def by_range_max(feature_map, cells, levels):
    return pool_range_max(feature_map, torch.as_tensor(np.asarray(cells)).long(), levels)


pyramids = st.lists(st.integers(1, 8), min_size=1, max_size=4).map(tuple)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


@settings(max_examples=150)
@given(maps_and_cells(), pyramids, dtypes)
def test_equals_adaptive_max_pooling(by_torch, made, levels, dtype):
    feature_map, cells = made[0].to(dtype), made[1]
    expected = by_torch(feature_map.double(), cells, levels).to(dtype)
    found = pool(feature_map, cells, levels)
    assert found.dtype == dtype
    assert torch.equal(found, expected)
    assert torch.equal(by_range_max(feature_map, cells, levels), found)


# The paper's Figure 4 (§2.3): bins, and the size and stride of its sliding window for 13x13 cells.
FIGURE_4 = ((3, 5, 4), (2, 7, 6), (1, 13, 13))


def test_a_map_of_13_by_13_is_pooled_as_by_the_sliding_windows_of_figure_4():
    maps = torch.randn(4, 7, 13, 13, generator=torch.Generator().manual_seed(4))
    pooled = [max_pool2d(maps, size, stride) for _, size, stride in FIGURE_4]
    bins = [level.flatten(2).transpose(1, 2).flatten(1) for level in pooled]
    expected = torch.cat(bins, dim=1)
    levels = tuple(level for level, _, _ in FIGURE_4)
    assert expected.shape == (4, 7 * (9 + 4 + 1))
    assert torch.equal(SpatialPyramidPooling(levels)(maps), expected)
    ours = torch.cat([pool(each, [[0, 0, 13, 13]], levels) for each in maps])
    assert torch.equal(ours, expected)


def test_without_a_kernel_the_result_is_put_where_it_is_wanted(monkeypatch, by_torch):
    monkeypatch.setattr(pooling, "BITS", {})
    cells, out = np.array([[1, 0, 4, 3]]), torch.zeros(1, COUNTED.shape[0] * 5)
    assert pool(COUNTED, cells, (2, 1), out) is out
    assert torch.equal(out, by_torch(COUNTED, cells, (2, 1)))


@pytest.mark.parametrize("levels", [(6, 3, 2, 1), (4, 3, 2, 1), (1, 2, 4, 8), (5, 5, 2)])
def test_coarse_levels_from_finer_ones(levels, by_torch):
    feature_map = torch.randn(3, 23, 29, generator=torch.Generator().manual_seed(0))
    cells = [
        [x, y, x + w, y + h] for x in (0, 5) for y in (0, 3) for w in range(1, 25) for h in (1, 9)
    ]
    cells = np.minimum(np.array(cells), [28, 22, 29, 23])
    assert torch.equal(pool(feature_map, cells, levels), by_torch(feature_map, cells, levels))


@settings(max_examples=25)
@given(maps_and_cells(), pyramids)
def test_gradients_equal_adaptive_max_poolings(by_torch, made, levels):
    feature_map, cells = made
    gradients = []
    for way in (pool, by_torch):
        leaf = feature_map.double().requires_grad_()
        vectors = way(leaf, cells, levels)
        weights = torch.arange(1.0, vectors.numel() + 1, dtype=torch.float64)
        (vectors.flatten() * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("none", [torch.nan, -torch.nan])
@pytest.mark.parametrize("way", [pool, by_range_max])
def test_a_number_that_is_none_is_not_lost(dtype, none, way):
    feature_map = torch.randn(2, 5, 5).to(dtype)
    feature_map[1, 2, 2] = torch.inf
    feature_map[0, 2, 2] = none
    found = way(feature_map, [[0, 0, 5, 5], [0, 0, 2, 2]], (2, 1))
    assert found.isnan().reshape(2, 5, 2).sum(1).tolist() == [[5, 0], [0, 0]]
    assert found.isinf().reshape(2, 5, 2).sum(1).tolist() == [[0, 5], [0, 0]]


@pytest.mark.parametrize("dtype", BITS)
def test_zeros_of_both_signs(dtype):
    # -0.0 only: stays; both: +0.0, whichever comes first
    feature_map = torch.tensor([[[-0.0, -0.0, 0.0, -0.0, -1.0]]], dtype=dtype)
    found = pool(feature_map, [[0, 0, 2, 1], [0, 0, 3, 1], [2, 0, 4, 1], [3, 0, 5, 1]], (1,))
    assert found.signbit().flatten().tolist() == [True, False, False, True]
    assert found.flatten().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (torch.empty(1, 3), r"\[1, 3\].* \[1, 4\]"),
        (torch.empty(1, 4).double(), r"float64.*torch\.float32"),
        (torch.empty(1, 8)[:, ::2], r"strides \(8, 2\)"),
        (torch.empty(1, 4).requires_grad_(), "gradients do not pass"),
    ],
)
def test_an_out_that_does_not_fit(out, said):
    with pytest.raises(ValueError, match=said):
        pool(COUNTED, WHOLE, (2,), out=out)


def test_gradients_and_out():
    leaf = COUNTED.clone().requires_grad_()
    with pytest.raises(ValueError, match="gradients do not pass"):
        pool(leaf, WHOLE, (1,), out=torch.empty(1, 1))
    with torch.no_grad():
        assert pool(leaf, WHOLE, (1,), out=torch.empty(1, 1)).tolist() == [[16]]
    assert pool(leaf, WHOLE, (1,)).requires_grad
    assert pool(COUNTED, [], (1,), out=torch.empty(0, 1)).shape == (0, 1)


@pytest.mark.parametrize("dtype", BITS)
def test_room_for_vectors(dtype):
    room = empty_vectors(3, 5, torch.empty(0, dtype=dtype))
    assert (room.shape, room.dtype, room.is_contiguous()) == ((3, 5), dtype, True)
    assert room.data_ptr() % 64 == 0
    assert empty_vectors(0, 5, COUNTED).shape == (0, 5)


@pytest.mark.parametrize("none", [[], np.zeros((0, 4), np.int32), torch.zeros(0, 4).long()])
@pytest.mark.parametrize("differentiable", [False, True])
def test_no_windows(none, differentiable):
    feature_map = torch.randn(7, 3, 3).requires_grad_(differentiable)
    assert pool(feature_map, none, (6, 3, 2, 1)).shape == (0, 7 * 50)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ([2, 1, 2, 3], r"\[2, 1, 2, 3\]"),
        ([2, 3, 3, 2], r"\[2, 3, 3, 2\]"),
        ([-1, 0, 2, 2], r"\[-1, 0, 2, 2\]"),
        ([0, 0, 6, 2], r"\[0, 0, 6, 2\]"),
        ([0, 0, 2, 5], r"\[0, 0, 2, 5\]"),
    ],
)
def test_empty_and_outside_windows_are_named(bad, named):
    feature_map = torch.zeros(1, 4, 5)
    with pytest.raises(ValueError, match=rf"window 1 covers cells {named}.* 5×4 feature map"):
        pool(feature_map, [[0, 0, 5, 4], bad], (2,))


def test_impossible_arguments():
    for levels in ((), (2, 0)):
        with pytest.raises(ValueError, match="pyramid levels are"):
            pool(COUNTED, WHOLE, levels)
    with pytest.raises(ValueError, match=r"cells have shape \[1, 3\]"):
        pool(COUNTED, [[0, 0, 4]], (1,))


def test_many_windows_at_once(by_torch):
    generator = torch.Generator().manual_seed(0)
    feature_map = torch.randn(256, 42, 56, generator=generator)
    corner = torch.stack([torch.randint(0, 50, (2000,), generator=generator) for _ in "xy"], dim=1)
    corner[:, 1] = corner[:, 1].clamp(max=36)
    cells = torch.cat([corner, corner + 6], dim=1)
    found = pool(feature_map, cells, (6, 3, 2, 1))
    assert found.shape == (2000, 12_800)
    for row in (0, 1, 997, 1999):
        expected = by_torch(feature_map, cells[row : row + 1], (6, 3, 2, 1))
        assert torch.equal(found[row : row + 1], expected)


def test_the_layer_has_the_same_layout():
    maps = torch.randn(2, 3, 7, 9)
    layer = SpatialPyramidPooling((3, 2, 1))
    expected = torch.cat([pool(one, [[0, 0, 9, 7]], (3, 2, 1)) for one in maps])
    assert torch.equal(layer(maps), expected)
    assert repr(layer) == "SpatialPyramidPooling(levels=(3, 2, 1))"
    assert list(layer.parameters()) == []
