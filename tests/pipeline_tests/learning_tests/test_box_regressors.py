"""A set of box regressors: fitted from a store, saved, and applied."""

from functools import partial

import numpy as np
import pytest

from pipeline import boxes
from pipeline.config import Regression
from pipeline.datasets.records import Object
from pipeline.errors import InputError
from pipeline.learning import box_regressors
from pipeline.learning.box_pairs import RegressionSpec, pair_shard, read_pairs
from pipeline.learning.box_regression import fit_box_regressor
from pipeline.learning.box_regressors import BoxRegressors, assemble, fit_class
from pipeline.store import Vectors
from pipeline.store.blocks import as_block

SIZE = (100, 80)


@pytest.fixture
def spec(make_store, made, tmp_path):
    """Cats' windows whose vectors tell how far each is from its cat; a class without any."""
    random = np.random.default_rng(3)
    shards = []
    for shard in range(2):
        images = {}
        for number in range(3):
            x, y = map(float, random.integers(10, 40, 2))
            cat = Object("cat", (x, y, x + 30, y + 20))
            shifts = random.integers(-4, 5, (7, 2))
            windows = [[x + dx, y + dy, x + dx + 30, y + dy + 20] for dx, dy in shifts.tolist()]
            vectors = np.zeros((8, 5))
            vectors[:7, :2], vectors[:, 4] = shifts, 1.0
            images[f"{shard}{number}"] = made(vectors, windows, (cat,))
        shards.append(images)
    held = make_store(tmp_path / "store", shards, 5, "float16")
    return RegressionSpec(held, ("cat", "dog"), Regression(ridge=1e-3), True, 1000, 0)


@pytest.fixture
def fitted(spec, tmp_path):
    def fit(scale=1.0):
        for entry in spec.store.shards:
            pair_shard(spec, entry.shard_id, tmp_path / "pairs")
        work = partial(fit_class, spec, tmp_path / "pairs", scale, tmp_path / "parts")
        return [work(k) for k in range(2)], assemble(spec, tmp_path / "parts", scale)

    return fit


def test_windows_learn_to_move_onto_their_object(spec, fitted):
    stats, known = fitted()
    assert [each.pairs for each in stats] == [6 * 8, 0]
    assert stats[0].error_before > 0.05
    assert stats[0].error_after < 0.002
    # 4 px to the right and 2 up of an object at (20, 30): a window moves back by both.
    vector = np.array([[4, -2, 0, 0, 1]], np.float16)
    moved = known.mover()(np.array([[24.0, 28, 54, 48]]), np.array([0]), as_block(vector), SIZE)
    np.testing.assert_allclose(moved, [[20, 30, 50, 50]], atol=0.1)


def test_from_a_store_is_from_an_array(spec, fitted, tmp_path):
    scale = 3.0
    _, known = fitted(scale)
    vectors = Vectors(spec.store)
    pairs = read_pairs(tmp_path / "pairs", spec, 0, vectors.first)
    features = vectors.take(pairs.rows).astype(np.float64) * scale
    expected = fit_box_regressor(features, pairs.moves, spec.settings.ridge)
    np.testing.assert_allclose(known.weights[0], expected.weights.T, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(known.biases[0], expected.bias, rtol=1e-6, atol=1e-7)


def test_a_class_without_pairs_moves_nothing(fitted):
    _, known = fitted()
    window = np.array([[5.5, 6, 20, 30]])
    moved = known.mover()(window, np.array([1]), as_block(np.ones((1, 5), np.float16)), SIZE)
    assert moved.tolist() == window.tolist()


def by_hand(biases) -> BoxRegressors:
    """One class that moves every window by the same."""
    weights = np.zeros((1, 4, 9), np.float32)
    return BoxRegressors(("cat",), weights, np.array([biases], np.float32), 1.0)


@pytest.mark.parametrize(
    ("biases", "expected"),
    [
        ((0.5, 0, 0, 0), [25, 10, 45, 40]),
        ((4, 0, 0, 0), [95, 10, 100, 40]),  # cut to the image
        ((-6, 0, 0, 0), [15, 10, 35, 40]),  # it would leave the image: it stays
        ((0, 0, 90, 90), [0, 0, 100, 80]),  # e⁹⁰ is no size
    ],
)
def test_where_a_window_goes(biases, expected):
    vectors = as_block(np.zeros((1, 9), np.float32))
    moved = by_hand(biases).mover()(np.array([[15.0, 10, 35, 40]]), np.array([0]), vectors, SIZE)
    np.testing.assert_allclose(moved, [expected])


def test_a_window_goes_where_it_goes_alone():
    random = np.random.default_rng(5)
    known = BoxRegressors(
        ("a", "b", "c"),
        random.normal(0, 0.01, (3, 4, 83)).astype(np.float32),
        random.normal(0, 0.1, (3, 4)).astype(np.float32),
        0.7,
    )
    corners = random.integers(0, 40, (50, 2))
    windows = np.hstack([corners, corners + random.integers(5, 40, (50, 2))]).astype(float)
    classes, vectors = random.integers(0, 3, 50), as_block(random.normal(size=(50, 83)))
    together = known.mover()(windows, classes, vectors, SIZE)
    for row in range(50):
        alone = known.mover()(windows[[row]], classes[[row]], vectors[[row]], SIZE)
        assert alone.tolist() == together[[row]].tolist()
    # It is what the weights say.
    wide = vectors.take().astype(np.float64) * 0.7
    moves = np.einsum("wd,wmd->wm", wide, known.weights[classes]) + known.biases[classes]
    expected = boxes.clip(boxes.decode(windows, moves), *SIZE)
    np.testing.assert_allclose(together, expected, atol=1e-3)


def test_saved_and_loaded(fitted, tmp_path):
    _, known = fitted()
    for name in ("one", "other"):
        known.save(tmp_path / name)
    back = box_regressors.load(tmp_path / "one")
    assert (back.classes, back.scale, back.made_from) == (known.classes, 1.0, known.made_from)
    assert back.weights.tolist() == known.weights.tolist()
    for file in (box_regressors.WEIGHTS, box_regressors.DESCRIPTION):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_what_is_damaged_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no box regressors: regressors.json is absent"):
        box_regressors.load(tmp_path)
    by_hand((0, 0, 0, 0)).save(tmp_path)
    (tmp_path / box_regressors.WEIGHTS).write_bytes(b"cut")
    with pytest.raises(InputError, match=r"regressors.safetensors cannot be read.*make it again"):
        box_regressors.load(tmp_path)
    one = by_hand((0, 0, 0, 0))
    BoxRegressors(("a", "b"), one.weights, one.biases, 1.0).save(tmp_path)
    with pytest.raises(InputError, match=r"weights \[1, 4, 9\] and biases \[1, 4\] for 2 classes"):
        box_regressors.load(tmp_path)


def test_too_much_memory_is_refused_with_the_way_out(spec, tmp_path):
    pair_shard(spec, "00000", tmp_path / "pairs")
    pair_shard(spec, "00001", tmp_path / "pairs")
    tight = RegressionSpec(spec.store, spec.classes, Regression(memory_bytes=1000), True, 1000, 0)
    with pytest.raises(InputError, match=r"class 'cat': 48 windows of 5 numbers take .* raise it"):
        fit_class(tight, tmp_path / "pairs", 1.0, tmp_path / "parts", 0)
    assert not (tmp_path / "parts").exists()
