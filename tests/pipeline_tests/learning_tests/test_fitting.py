"""Classes fitted together: what they share, what they may take, and where they begin."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.config import Mining, Svm
from pipeline.errors import InputError
from pipeline.learning import fit_svm, fitting
from pipeline.learning.cache import CacheWriter, read_members
from pipeline.learning.fits import read_duals, row_keys, write_fit
from pipeline.learning.fitting import fit_classes, memory_groups, shares
from pipeline.learning.mining import MiningSpec
from pipeline.learning.svm import Fit, LinearSVM
from pipeline.store.blocks import block_of

CLASSES = ("cat", "dog", "owl")
WINDOWS, DIM = 40, 16


@pytest.fixture
def held(make_store, made, tmp_path):
    """Two shards of two images of twenty windows, whose vectors lean towards a class or another."""
    random = np.random.default_rng(7)
    lean = random.normal(size=(3, DIM))
    shards = []
    for first in (0, 2):
        images = {}
        for number in (first, first + 1):
            vectors = random.normal(size=(20, DIM)) + 1.5 * lean[np.arange(20) % 3]
            boxes = [[9 * k, 0, 9 * k + 5, 5] for k in range(10)] * 2
            images[f"{number}"] = made(vectors, boxes)
        shards.append(images)
    return make_store(tmp_path / "store", shards, DIM)


def cached(held, folder, passes=1):
    """Rows of a class's lean are its positives; others' are negatives, a part of them a pass."""
    caches = [folder / f"pass-{number}" for number in range(passes)]
    for entry in held.shards:
        vectors = np.concatenate(
            [table_vectors(t) for t in held.scan() if in_shard(t, held.record(entry.shard_id))]
        )
        kind = np.tile(np.arange(20) % 3, 2)
        positive = (kind[:, None] == np.arange(3)) & (np.arange(WINDOWS) % 4 > 0)[:, None]
        for number in range(passes):
            shown = (np.arange(WINDOWS) * 7 % passes)[:, None] <= number
            negative = (kind[:, None] != np.arange(3)) & shown
            own = positive & (number >= 0)
            with CacheWriter(caches[: number + 1], entry.shard_id, held.spec, WINDOWS) as writer:
                if number:
                    writer.keep(read_members(caches[number - 1], entry.shard_id, 3))
                writer.add(0, own | negative, block_of(vectors, held.spec))
                writer.commit(own, negative)
    return caches


def table_vectors(table):
    return np.stack([np.frombuffer(each, np.float32) for each in table["vector"].to_pylist()])


def in_shard(table, record):
    return table["image_id"][0].as_py() in record.images


def spec_of(held, **svm):
    return MiningSpec(held, CLASSES, Svm(**svm), Mining(), 0)


def weights(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("solver", ["liblinear", "dense"])
def test_who_is_fitted_together_changes_not_a_byte(held, tmp_path, solver):
    caches, spec = cached(held, tmp_path), spec_of(held, solver=solver)
    together = fit_classes(spec, [0, 1, 2], caches, 0.5, tmp_path / "together")
    for k in range(3):
        alone = fit_classes(spec, [k], caches, 0.5, tmp_path / "alone")
        assert alone.fits == [together.fits[k]]
    assert weights(tmp_path / "together") == weights(tmp_path / "alone")


@pytest.mark.parametrize("solver", ["liblinear", "dense"])
def test_when_a_row_was_cached_changes_not_a_byte(held, tmp_path, solver):
    spec = spec_of(held, solver=solver)
    for passes in (1, 3):
        caches = cached(held, tmp_path / f"caches-{passes}", passes)
        fit_classes(spec, [0, 1, 2], caches, 0.5, tmp_path / str(passes))
    parts = read_members(caches[-1], "00000", 3).part
    assert set(parts.tolist()) == {0, 1, 2}
    assert weights(tmp_path / "1") == weights(tmp_path / "3")


def test_a_class_is_fitted_on_its_rows_in_their_order(held, tmp_path):
    caches = cached(held, tmp_path, 2)
    stats = fit_classes(spec_of(held, tolerance=1e-4), [1], caches, 0.5, tmp_path / "fits")
    vectors = np.concatenate([table_vectors(table) for table in held.scan()])
    kind, place = np.tile(np.arange(20) % 3, 4), np.tile(np.arange(WINDOWS), 2)
    used = (kind != 1) | (place % 4 > 0)
    expected = fit_svm(vectors[used], kind[used] == 1, tolerance=1e-4, scale=0.5)
    found = load_file(tmp_path / "fits/1.safetensors")["weights"]
    assert (found == np.append(expected.weights, expected.intercept)).all()
    assert stats.objective == [expected.objective]
    assert stats.positives == [int((kind[used] == 1).sum())]
    assert stats.negatives == [int((kind[used] != 1).sum())]


LABELS = np.array([[1, 1, 0], [-1, -1, 1], [-1, 0, -1], [0, -1, -1]], np.int8)


def groups_within(spec, monkeypatch, memory_bytes):
    """Groups where the vectors, labels and duals are free, and a number that is not zero costs 1.

    The rows' numbers: 2, 3, 5, 7. Alone, classes need 10, 12 and 15; together, any two need 17.
    """
    monkeypatch.setattr(fitting.svm, "needed_bytes", lambda rows, numbers, *_: numbers - free(rows))
    free = lambda rows: rows * spec.store.spec.row_bytes  # noqa: E731
    monkeypatch.setattr(fitting, "ROW_BYTES", 0)
    monkeypatch.setattr(fitting, "LABEL_BYTES", 0)
    monkeypatch.setattr(fitting, "DUAL_BYTES", 0)
    limited = MiningSpec(spec.store, CLASSES, Svm(memory_bytes=memory_bytes), Mining(), 0)
    return list(memory_groups(limited, [0, 1, 2], LABELS, np.array([2, 3, 5, 7])))


@pytest.mark.parametrize(
    ("memory_bytes", "groups"),
    [(17, [[0, 1, 2]]), (16, [[0], [1], [2]]), (15, [[0], [1], [2]])],
)
def test_groups_stay_within_memory(held, monkeypatch, memory_bytes, groups):
    assert groups_within(spec_of(held), monkeypatch, memory_bytes) == groups


def test_all_that_is_held_is_counted(held, monkeypatch):
    solving = {(3, 2 + 3 + 7, DIM, "liblinear", 2): 1000}
    monkeypatch.setattr(fitting.svm, "needed_bytes", lambda *given: solving[given])
    used = np.array([True, True, False, True])
    needed = fitting._needed_bytes(spec_of(held), used, np.array([2, 3, 5, 7]), 2, 3)
    known = 4 * (8 + 4 + 4 + 4 + 3)  # of four rows: shard, row, part, nonzeros; three labels
    assert needed == known + 3 * (DIM * 4 + 2 * (1 + 8 + 8)) + 1000


def test_only_the_labels_of_a_tasks_classes_are_kept(held, tmp_path):
    caches, spec = cached(held, tmp_path), spec_of(held)
    every, some = (fitting._cached(spec, classes, caches) for classes in ([0, 1, 2], [2, 0]))
    assert some.labels.tolist() == every.labels[:, [2, 0]].tolist()
    beside = (some.shard, some.row, some.part, some.nonzeros)
    assert sum(each.itemsize for each in beside) == fitting.ROW_BYTES


def test_a_class_that_does_not_fit_is_refused_with_both_numbers(held, monkeypatch):
    says = r'class "owl" needs 15 bytes for 3 windows, more than svm.memory_bytes = 14: raise'
    with pytest.raises(InputError, match=says):
        groups_within(spec_of(held), monkeypatch, 14)


def test_memory_is_refused_before_anything_is_loaded(held, tmp_path, monkeypatch):
    caches = cached(held, tmp_path)
    monkeypatch.setattr(fitting, "read_vectors", None)
    says = r'class "cat" needs [\d,]+ bytes for 72 windows, more than svm.memory_bytes = 10,000'
    with pytest.raises(InputError, match=says):
        fit_classes(spec_of(held, memory_bytes=10_000), [0, 1], caches, 1.0, tmp_path / "fits")
    assert not (tmp_path / "fits").exists()


def test_little_memory_gives_the_same_from_smaller_groups(held, tmp_path, monkeypatch):
    caches, seen = cached(held, tmp_path), []
    fit = fitting.svm.fit_svms
    monkeypatch.setattr(
        fitting.svm, "fit_svms", lambda X, Y, *rest: (seen.append(Y.shape), fit(X, Y, *rest))[1]
    )
    known = fitting._cached(spec_of(held), [0, 1, 2], caches)
    owl = known.labels[:, 2] != 0
    needs = fitting._needed_bytes(spec_of(held), owl, known.nonzeros, 1, 3)
    for name, memory_bytes in (("much", 10**9), ("little", needs)):
        spec = spec_of(held, memory_bytes=memory_bytes)
        fit_classes(spec, [0, 1, 2], caches, 1.0, tmp_path / name)
    assert [classes for _, classes in seen] == [3, 1, 1, 1]
    assert weights(tmp_path / "much") == weights(tmp_path / "little")


def test_a_class_without_a_positive_is_refused(held, tmp_path):
    with CacheWriter([tmp_path], "00000", held.spec, WINDOWS) as writer:
        writer.commit(np.zeros((WINDOWS, 3), bool), np.zeros((WINDOWS, 3), bool))
    cached(held, tmp_path / "whole")
    flags = np.zeros((WINDOWS, 3), bool)
    for entry in held.shards:
        with CacheWriter([tmp_path / "none"], entry.shard_id, held.spec, WINDOWS) as writer:
            negative = flags.copy()
            negative[3] = True
            writer.add(0, negative, block_of(np.ones((WINDOWS, DIM), np.float32), held.spec))
            writer.commit(flags, negative)
    says = r'class "dog" has 0 positive and 2 negative windows to learn from: label some'
    with pytest.raises(InputError, match=says):
        fit_classes(spec_of(held), [1], [tmp_path / "none"], 1.0, tmp_path / "fits")
    assert not (tmp_path / "fits").exists()


def test_the_dense_solver_goes_on_from_the_duals_of_the_rows(held, tmp_path, monkeypatch):
    caches, spec, seen = cached(held, tmp_path, 2), spec_of(held, solver="dense"), []
    fit = fitting.svm.fit_svms

    def noted(X, Y, *rest):
        seen.append(rest[-1])
        fits = fit(X, Y, *rest)
        duals.append(np.stack([each.dual for each in fits], axis=1))
        return fits

    duals: list[np.ndarray] = []
    monkeypatch.setattr(fitting.svm, "fit_svms", noted)
    first, again = tmp_path / "first", tmp_path / "again"
    one = fit_classes(spec, [0, 2], caches[:1], 0.5, first)
    two = fit_classes(spec, [0, 2], caches, 0.5, again, {0: first, 2: first})
    assert seen[0] is None
    # The rows of the first fit, at their places among the second's.
    rows = [
        np.concatenate([rows_of(folder, shard, [0, 2]) for shard in (0, 1)]) for folder in caches
    ]
    places = np.searchsorted(rows[1], rows[0])
    assert (seen[1][places] == duals[0]).all()
    assert not np.delete(seen[1], places, axis=0).any()
    assert duals[0].any()
    cold = fit_classes(spec, [0, 2], caches, 0.5, tmp_path / "cold")
    assert two.objective == pytest.approx(cold.objective, rel=1e-3)
    assert two.objective > one.objective  # more negatives


def test_duals_are_kept_by_shard_and_row(tmp_path):
    svm = LinearSVM(np.array([1.0, 2.0]), 3.0, 0.5)
    shard, row = np.array([0, 0, 1, 1]), np.array([2, 5, 2, 3])
    write_fit(tmp_path, 4, Fit(svm, np.array([0.1, 0.0, 0.2, 0.3]), 1), shard, row)
    # Now row 3 of shard 1 has gone, and three others have come.
    keys = row_keys(np.array([0, 0, 1, 1, 2]), np.array([0, 2, 1, 2, 3]))
    assert read_duals(tmp_path, 4, keys).tolist() == [0, 0.1, 0, 0.2, 0]
    assert read_duals(tmp_path, 4, keys[:1]).tolist() == [0]
    write_fit(tmp_path, 5, Fit(svm, None, 0), shard, row)
    assert read_duals(tmp_path, 5, keys) is None
    assert load_file(tmp_path / "5.safetensors")["weights"].tolist() == [1, 2, 3]


def rows_of(folder, shard, classes):
    """Rows of the store that some of these classes learn from."""
    members = read_members(folder, f"{shard:05d}", 3)
    used = (members.positive | members.negative)[:, classes].any(axis=1)
    return shard * WINDOWS + members.row[used]


def test_classes_are_shared_out_evenly():
    assert shares(range(5), 2) == [[0, 1, 2], [3, 4]]
    assert shares([3, 8], 64) == [[3], [8]]
    assert shares([], 2) == []
