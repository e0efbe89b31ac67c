"""The compact copy: near to what it is a copy of, whole or absent, and never another store's."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import save

from pipeline import store
from pipeline.errors import InputError
from pipeline.search import Compact, build, compacting
from pipeline.search.codes import Codes, codes_schema, read_codes, to_batch
from pipeline.search.compact import (
    FOLDER,
    axes_name,
    codes_name,
    read_record,
    record_bytes,
)
from pipeline.search.nearest import nearest
from pipeline.search.projection import Projection, fit, from_bytes
from pipeline.store.blocks import query
from pipeline.store.place import place
from pipeline.store.rows import Vectors
from tests import small_store

SEED = 3


@pytest.fixture(autouse=True)
def few_queries(monkeypatch):
    monkeypatch.setattr("pipeline.search.compacting.QUERIES", 5)
    monkeypatch.setattr("pipeline.search.compacting.TIMED", 1)


def files(held):
    return {name: held.root.read(f"{FOLDER}/{name}") for name in held.root.listing(FOLDER)}


def copy_of(held):
    record = read_record(held)
    assert record is not None
    return Compact(held, Vectors(held), record.key)


# --- codes ----------------------------------------------------------------------------------------


def test_codes_are_steps_of_the_largest_number():
    axes = np.zeros((10, 8), np.float32)
    axes[:8] = np.eye(8)
    projection = Projection(np.zeros(10, np.float32), axes)
    rows = torch.zeros(2, 10)
    rows[0, 0], rows[0, 1] = 3.0, -4.0  # of length 5: 0.6 and -0.8, and 0.8 is 127 steps
    made = projection.codes(rows)
    assert made.codes.tolist() == [[95, -127, 0, 0, 0, 0, 0, 0], [0] * 8]
    assert made.scales.tolist() == pytest.approx([0.8 / 127, 0])
    assert made.lengths.tolist() == [5.0, 0.0]


def test_axes_that_hold_a_sample_give_its_cosines():
    # Rank 5, in 40 numbers: five axes lose nothing but the steps' rounding.
    random = np.random.default_rng(0)
    rows = (random.normal(size=(200, 5)) @ random.normal(size=(5, 40))).astype(np.float32)
    projection = fit(torch.from_numpy(rows), 8, SEED)
    made, given = projection.codes(torch.from_numpy(rows)), query(rows[7])
    numbers, offset = projection.turned(given)
    cosines = rows @ rows[7] / np.linalg.norm(rows, axis=1) / given.norm
    about = made.scales * (made.codes @ numbers) + offset
    # A step is at most 1/127; eight of them, each half a step off.
    assert np.abs(about - cosines).max() < 0.02
    assert np.allclose(projection.axes.T @ projection.axes, np.eye(8), atol=1e-4)


def test_axes_are_no_more_than_the_sample_has_rows():
    projection = fit(torch.randn(3, 11), 512, SEED)
    assert projection.axes.shape == (11, 3)
    again = from_bytes(projection.to_bytes(), "here", 11)
    assert np.array_equal(again.axes, projection.axes)
    with pytest.raises(InputError, match=r"here cannot be read .* spp index"):
        from_bytes(b"torn", "here", 11)


# --- search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_the_answer_has_exact_scores(small, metric):
    record = build(small)
    assert (record.numbers, record.windows.recall, record.windows.at) == (12, 1.0, 12)
    queries = [query(each) for each in np.random.default_rng(1).normal(size=(2, 50))]
    among = np.arange(12) % 3 > 0
    for mask in (None, among):
        exact = nearest(Vectors(small), queries, 4, metric, mask)
        for one, other in zip(copy_of(small).nearest(queries, 4, metric, mask), exact, strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            assert one.scores.tolist() == other.scores.tolist()


def test_only_survivors_are_read(vectors_store, monkeypatch):
    monkeypatch.setattr("pipeline.search.compact.SURVIVORS", (6, 6))
    monkeypatch.setattr("pipeline.search.compact.SURVIVORS_PER_ROW", 1)
    random = np.random.default_rng(0)
    # Of lengths from a tenth to ten: the longest have the largest products.
    held = vectors_store(random.normal(size=(90, 16)) * np.geomspace(0.1, 10, 90)[:, None])
    build(held)
    copy, taken = copy_of(held), []
    measure = Vectors.measure
    monkeypatch.setattr(
        Vectors,
        "measure",
        lambda self, rows, given: taken.extend(rows) or measure(self, rows, given),
    )
    for metric in ("cosine", "dot"):
        given = query(np.random.default_rng(8).normal(size=16))
        (exact,) = nearest(Vectors(held), [given], 4, metric)
        taken.clear()
        (found,) = copy.nearest([given], 4, metric)
        assert (len(taken), len(set(taken))) == (6, 6)
        assert found.rows.tolist() == exact.rows.tolist()


def test_a_copy_that_loses_says_so(vectors_store, monkeypatch):
    monkeypatch.setattr("pipeline.search.compacting.QUERIES", 100)
    monkeypatch.setattr("pipeline.search.compact.SURVIVORS", (10, 10))
    monkeypatch.setattr("pipeline.search.compact.SURVIVORS_PER_ROW", 1)
    monkeypatch.setattr("pipeline.search.compacting.AT", 10)
    # No axis is better than another: of 64, eight hold an eighth.
    measured = build(vectors_store(np.random.default_rng(0).normal(size=(160, 64))), 8).windows
    assert 0 <= measured.least < measured.recall < 0.9
    assert (measured.queries, measured.at) == (100, 10)


def test_what_is_measured_of_hits_is_what_similar_asks_for(vectors_store, monkeypatch):
    monkeypatch.setattr("pipeline.search.compacting.HITS", 2)
    monkeypatch.setattr("pipeline.search.similar.ROWS_PER_HIT", 3)
    monkeypatch.setattr("pipeline.search.similar.FEWEST_ROWS", 1)
    asked, original = [], Compact.nearest

    def nearest_(self, queries, count):
        asked.append((len(queries), count))
        return original(self, queries, count)

    monkeypatch.setattr(Compact, "nearest", nearest_)
    record = build(vectors_store(np.random.default_rng(0).normal(size=(48, 16))))
    assert (record.hits.at, record.hits.queries, record.hits.recall) == (2, 1, 1)
    # Of the hundred nearest for all queries and for one, and then of the six that two hits need.
    assert asked[:3] == [(5, 100), (1, 100), (1, 6)]


def test_a_query_of_another_length_is_refused(small):
    build(small)
    with pytest.raises(InputError, match="has 49 numbers, those of the store 50"):
        copy_of(small).nearest([query(np.ones(49))], 1)


# --- files ----------------------------------------------------------------------------------------


def test_what_is_missing_is_finished(small):
    first, made = build(small), files(small)
    assert len(made) == 4
    times = {name: each.modified_s for name, each in small.root.listing(FOLDER).items()}
    told = []
    assert build(small, tell=lambda done, of: told.append((done, of))) == first
    assert told == []
    lost = codes_name(first.key, "00001")
    small.root.remove(lost)
    build(small, tell=lambda done, of: told.append((done, of)))
    assert told == [(2, 2)]
    again = files(small)
    record = f"{FOLDER}/" and next(name for name in made if name.endswith(".json"))
    assert {**again, record: b""} == {**made, record: b""}
    kept = small.root.listing(FOLDER)[f"{first.key}-00000.arrow"]
    assert kept.modified_s == times[f"{first.key}-00000.arrow"]


def test_equal_vectors_give_equal_files(tmp_path):
    made = []
    for name in ("one", "other"):
        small_store.make(place(tmp_path / name))
        held = store.open(tmp_path / name)
        build(held)
        made.append({name: data for name, data in files(held).items() if ".json" not in name})
    assert made[0] == made[1]
    assert build(held, seed=1).key != build(held, seed=2).key


@pytest.mark.parametrize("small", ["windows"], indirect=True)
@pytest.mark.parametrize("axes", [(50, 3), (49, 8), (50, 0), (50,)])
def test_axes_and_codes_of_other_lengths_are_refused(small, axes):
    record, random = build(small), np.random.default_rng(0)
    numbers = random.normal(size=axes).astype(np.float32)
    held = save({"mean": np.zeros(axes[0], np.float32), "axes": numbers})
    small.root.replace(axes_name(record.key), held)
    # Codes that name these axes, and are longer: a product would read beyond the axes' numbers.
    codes = Codes(np.ones((7, 9), np.int8), *np.ones((2, 7), np.float32))
    schema = codes_schema(9, sha256(held).hexdigest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(to_batch(codes, schema))
    small.root.replace(codes_name(record.key, "00000"), sink.getvalue().to_pybytes())
    with pytest.raises(InputError, match="run spp index again"):
        copy_of(small).nearest([query(np.ones(50))], 3)
    build(small)
    assert len(copy_of(small).nearest([query(np.ones(50))], 3)[0].rows) == 3


@pytest.mark.parametrize("damage", [b"", b"torn", "cut", "other"])
@pytest.mark.parametrize("small", ["windows"], indirect=True)
def test_damaged_codes_are_refused_and_made_again(small, damage):
    record = build(small)
    name, given = codes_name(record.key, "00000"), query(np.ones(50))
    (known,), whole = copy_of(small).nearest([given], 3), small.root.read(name)
    cut = {
        "cut": whole[: len(whole) // 2],
        "other": small.root.read(codes_name(record.key, "00001")),
    }
    small.root.replace(name, cut.get(damage, damage))
    with pytest.raises(InputError, match=rf"{name} is damaged .*: run spp index again"):
        copy_of(small).nearest([given], 3)
    build(small)
    assert small.root.read(name) == whole
    assert copy_of(small).nearest([given], 3)[0].rows.tolist() == known.rows.tolist()
    small.root.remove(name)
    with pytest.raises(InputError, match=rf"{name} is missing: run spp index again"):
        list(read_codes(small.root, name, 7, pa.schema({})))


@pytest.mark.parametrize("small", ["windows"], indirect=True)
@pytest.mark.parametrize("lost", [b"torn", None])
def test_codes_are_made_again_with_axes_that_are(small, monkeypatch, lost):
    first = build(small)
    axes, given = axes_name(first.key), query(np.ones(50))
    codes = small.root.read(codes_name(first.key, "00000"))
    small.root.remove(axes) if lost is None else small.root.replace(axes, lost)
    original = compacting.fit

    def flipped(*made):
        """As another kind of processor may: signs of axes are nobody's choice."""
        held = original(*made)
        return replace(held, axes=-held.axes)

    monkeypatch.setattr(compacting, "fit", flipped)
    monkeypatch.setattr("pipeline.search.compact.SURVIVORS", (3, 3))
    monkeypatch.setattr("pipeline.search.compact.SURVIVORS_PER_ROW", 1)
    told = []
    build(small, tell=lambda done, of: told.append(done))
    assert told == [1, 2]
    assert small.root.read(codes_name(first.key, "00000")) != codes
    (exact,), (found,) = nearest(Vectors(small), [given], 2), copy_of(small).nearest([given], 2)
    assert found.rows.tolist() == exact.rows.tolist()
    # Whoever kept the codes of other axes is told, and not answered.
    small.root.replace(codes_name(first.key, "00000"), codes)
    with pytest.raises(InputError, match=r"is damaged \(made with other axes\): run spp index"):
        copy_of(small).nearest([given], 2)


@pytest.mark.parametrize("small", ["windows"], indirect=True)
def test_of_two_who_make_axes_at_once_the_first_one_s_count(small, monkeypatch):
    original, firsts = compacting.fit, []

    def overtaken(*made):
        held = original(*made)
        key = next(iter(firsts))
        others = replace(held, axes=np.ascontiguousarray(held.axes[:, ::-1]))
        small.root.create(axes_name(key), others.to_bytes())
        return held

    firsts.append(build(small).key)
    small.root.remove(axes_name(firsts[0]))
    monkeypatch.setattr(compacting, "fit", overtaken)
    record = build(small)
    assert (record.windows.recall, record.hits.recall) == (1, 1)
    first = original(torch.from_numpy(Vectors(small).take(np.arange(12))), 512, 0)
    assert np.array_equal(copy_of(small).projection.axes, first.axes[:, ::-1])


@pytest.mark.parametrize("small", ["windows"], indirect=True)
def test_axes_and_record_that_are_damaged(small):
    record = build(small)
    small.root.replace(axes_name(record.key), b"torn")
    with pytest.raises(InputError, match=r"axes\.safetensors cannot be read"):
        copy_of(small).nearest([query(np.ones(50))], 3)
    build(small)
    copy_of(small).nearest([query(np.ones(50))], 3)
    led_out = record_bytes(replace(record, key="../x"))
    for torn in (b"", b"{", b"[]", b'{"key": "x"}', led_out):
        small.root.replace(f"{FOLDER}/{next(n for n in files(small) if '.json' in n)}", torn)
        assert read_record(small) is None
    assert build(small).key == record.key


def test_another_store_has_no_copy(small):
    first = build(small)
    small.root.remove("records/00001.json")
    small_store.write_shard(small.root, "00001", small.kind == "maps", flavour=1)
    store.finish(small.root, list(small_store.SHARDS))
    changed = store.open(small.root)
    assert read_record(changed) is None
    assert read_record(small) == first  # who opened the store before it changed
    second = build(changed)
    assert second.key != first.key
    names = set(files(changed))
    assert len(names) == 4
    assert all(name.startswith(second.key) or name.endswith(".json") for name in names)


def test_what_killed_attempts_left_goes_when_it_is_old(vectors_store, monkeypatch):
    held = vectors_store(np.eye(8))
    left = f"{build(held).key}-00000.arrow.tmp.0123456789ab"
    held.root.replace(f"{FOLDER}/{left}", b"")
    build(held)
    assert left in files(held)
    monkeypatch.setattr("pipeline.search.compacting.KEPT_S", -1.0)
    build(held)
    assert len(files(held)) == 3
    assert left not in files(held)


def test_a_store_without_windows_is_refused(made, make_store, tmp_path):
    held = make_store(tmp_path / "store", [{"a": made(np.zeros((0, 8)))}], 8)
    with pytest.raises(InputError, match="has no windows to make a compact copy of"):
        build(held)
