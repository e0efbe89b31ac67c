"""Vectors by the number of their row, from every kind of store."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.store import row_kernels
from pipeline.store.blocks import Block, as_block, block_of, query, weights
from pipeline.store.open_shard import OpenShard
from pipeline.store.pages import lies_plain, row_starts
from pipeline.store.place import open_parquet, place
from pipeline.store.records import SHARDS
from pipeline.store.rows import Vectors, row_groups
from pipeline.store.schema import VectorSpec, vectors
from tests import small_store


@pytest.fixture(params=["windows", "maps"])
def held(request, root):
    small_store.make(root, request.param == "maps")
    return store.open(root)


def scanned(held):
    return np.concatenate([vectors(table) for table in held.scan(["vector"])])


def test_rows_in_any_order_are_those_of_a_scan(held):
    rows, known = Vectors(held), scanned(held)
    wanted = np.array([7, 0, 3, 3, 11, 9])
    assert len(rows) == len(held) == 12
    assert np.array_equal(rows.take(wanted), known[wanted])
    assert rows.take(np.zeros(0, int)).shape == (0, 50)


def test_products_and_lengths_are_those_of_float64(held):
    rows, known = Vectors(held), scanned(held).astype(np.float64)
    given, wanted = query(np.random.default_rng(0).normal(size=50)), np.array([11, 2, 3, 0, 7, 8])
    products, squares = rows.measure(wanted, given)
    assert np.allclose(products, known[wanted] @ given.values, atol=1e-5)
    assert np.allclose(squares, (known[wanted] ** 2).sum(axis=1), atol=1e-5)


def test_blocks_of_a_shard_are_its_rows_in_order(held):
    rows, known = Vectors(held), scanned(held)
    found = [(first, block.take()) for shard in (0, 1) for first, block in rows.blocks(shard)]
    assert [first for first, _ in found] == [0, 3, 7]
    assert np.array_equal(np.concatenate([part for _, part in found]), known)


def test_many_threads_read_the_same(held):
    rows, known = Vectors(held), scanned(held)
    wanted = [np.random.default_rng(seed).integers(0, 12, 9) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for each, found in zip(wanted, pool.map(rows.take, wanted), strict=True):
            assert np.array_equal(found, known[each])


def test_a_row_that_is_not_there_is_refused(held):
    with pytest.raises(InputError, match="has 12 rows, and none has number 12"):
        Vectors(held).take(np.array([3, 12]))


def test_a_vector_of_another_length_is_refused(held):
    with pytest.raises(InputError, match="has 49 numbers, those of the store 50"):
        Vectors(held).measure(np.array([0]), query(np.ones(49)))
    with pytest.raises(InputError, match="not finite"):
        query(np.array([1.0, np.nan]))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("length", [3, 7, 8, 9, 16, 21, 64])
def test_every_length_is_measured_whole(length, dtype):
    # Whole numbers, whose products and sums are exact whatever their order.
    random = np.random.default_rng(length)
    held = random.integers(-9, 9, (11, length)).astype(dtype)
    given = random.integers(-9, 9, length).astype(np.float32)
    products, squares = block_of(held, VectorSpec(length, dtype)).measure(query(given))
    assert np.array_equal(products, held.astype(np.float64) @ given)
    assert np.array_equal(squares, (held.astype(np.float64) ** 2).sum(axis=1))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_may_begin_at_any_byte(dtype):
    held = np.arange(40, dtype=dtype).reshape(4, 10)
    spec = VectorSpec(10, dtype)
    shifted = np.concatenate([np.zeros(3, np.uint8), held.reshape(-1).view(np.uint8)])
    block = Block(shifted, np.arange(4) * spec.row_bytes + 3, spec)
    assert np.array_equal(block.take(), held)
    assert np.array_equal(block.measure(query(np.ones(10)))[0], held.sum(axis=1))


def test_processors_without_half_floats_widen_them_all_the_same(monkeypatch):
    monkeypatch.setattr(row_kernels, "widens_halves", lambda: False)
    bits = np.arange(1 << 16).astype(np.uint16)
    halves = bits.view(np.float16)
    halves = halves[np.isfinite(halves)]
    length = 8
    held = halves[: len(halves) // length * length].reshape(-1, length)
    given, last = np.zeros(length, np.float32), np.ones(8, np.float32)
    given[3] = 1
    products, squares = np.empty((2, len(held)), np.float32)
    block = block_of(held, VectorSpec(length))
    compiled = row_kernels.measure.py_func
    fresh = row_kernels.njit(nogil=True)(compiled)
    bytes_ = (given.view(np.uint8), last.view(np.uint8))
    fresh(block.buffer, block.starts, row_kernels.LIKE["float16"], *bytes_, products, squares)
    assert np.array_equal(products, held[:, 3].astype(np.float32))


# --- pages ---------------------------------------------------------------------------------------


def chunk_of(held, group=0):
    entry = held.shards[0]
    with open_parquet(held.root, entry.name(SHARDS)) as file:
        metadata = file.metadata.row_group(group)
        column = metadata.column(len(file.schema_arrow) - 1)
    with held.root.open(entry.name(SHARDS)) as file:
        file.seek(column.data_page_offset)
        data = file.read_buffer(column.total_compressed_size)
    return column, np.frombuffer(data, np.uint8), metadata.num_rows


def test_pages_are_followed_to_the_last_row(tmp_path, monkeypatch):
    # One row a page, and so a header before every vector.
    monkeypatch.setattr("pipeline.store.writing.PAGE_BYTES", 100)
    small_store.make(place(tmp_path / "store"))
    held = store.open(tmp_path / "store")
    column, chunk, rows = chunk_of(held)
    starts = row_starts(chunk, rows, 100)
    assert lies_plain(column)
    assert len(starts) == rows == 3
    assert (np.diff(starts) > 100).all()
    assert np.array_equal(Vectors(held).take(np.arange(12)), scanned(held))


@pytest.mark.parametrize("damage", ["cut", "zeros", "other"])
def test_pages_that_are_damaged_are_refused(tmp_path, damage):
    small_store.make(place(tmp_path / "store"))
    _, chunk, rows = chunk_of(store.open(tmp_path / "store"))
    broken = {
        "cut": chunk[:-1],
        "zeros": np.zeros_like(chunk),
        "other": np.full_like(chunk, 0x15),
    }[damage]
    with pytest.raises(InputError, match="a page of vectors"):
        row_starts(broken, rows, 100)


def test_other_layouts_are_no_plain_pages(made, make_store, root):
    shards = [{"a": made(np.ones((3, 3)), [[0, 0, 7, 7]] * 3, ())}]
    held = make_store(root, shards, 3, "float16", "list")
    column, _, _ = chunk_of(held)
    assert not lies_plain(column)
    assert np.array_equal(Vectors(held).take(np.array([2])), np.ones((1, 3)))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("length", [3, 8, 13, 32])
@pytest.mark.parametrize("columns", [1, 4, 6])
def test_every_vector_is_multiplied_with_every_column(length, dtype, columns):
    drawn = np.random.default_rng(length)
    held = drawn.integers(-9, 9, (41, length)).astype(dtype)  # small integers: every sum is exact
    given = drawn.integers(-9, 9, (columns, length)).astype(float)
    chosen = [9, 0, 3, 3, 40, 5, 1] * 5  # more than go through the loop together, and no multiple
    block = block_of(held, VectorSpec(length, dtype))
    assert block[chosen].multiply(weights(given)).tolist() == (held[chosen] @ given.T).tolist()
    assert block[:0].multiply(weights(given)).shape == (0, columns)
    assert block.multiply(weights(given[:0])).shape == (41, 0)


@pytest.mark.parametrize("length", [3, 8, 301])
def test_a_product_is_the_same_whatever_is_asked_for_beside_it(length):
    drawn = np.random.default_rng(length)
    held, given = drawn.normal(size=(45, length)), drawn.normal(size=(9, length))
    block = as_block(held)
    together = block.multiply(weights(given))
    for row, column in [(0, 0), (16, 8), (44, 5)]:
        alone = block[[row]].multiply(weights(given[[column]]))
        assert alone[0, 0] == together[row, column]
    assert np.array_equal(together, as_block(held.astype(np.float32)).multiply(weights(given)))
    with pytest.raises(InputError, match=f"has 2 numbers, those of the store {length}"):
        block.multiply(weights(given[:, :2]))


def test_row_groups_come_with_their_vectors(held):
    found = list(row_groups(held, "00000", ["image_id", "x_min"]))
    assert [table.column_names for table, _ in found] == [["image_id", "x_min"]] * 2
    assert [len(block) for _, block in found] == [len(table) for table, _ in found] == [3, 4]
    assert np.array_equal(np.concatenate([block.take() for _, block in found]), scanned(held)[:7])


@pytest.mark.parametrize(("most_bytes", "reads"), [(1 << 20, 3), (1, 6)])
def test_row_groups_that_were_copied_are_kept_within_bounds(
    made, make_store, tmp_path, monkeypatch, most_bytes, reads
):
    monkeypatch.setattr("pipeline.store.rows.COPIED_BYTES", most_bytes)
    image = made(np.ones((3, 3)), [[0, 0, 7, 7]] * 3, ())
    held = make_store(tmp_path, [{"a": image, "b": image}, {"c": image}], 3, "float16", "list")
    read = []
    monkeypatch.setattr(
        OpenShard, "read", lambda *given, _read=OpenShard.read: read.append(1) or _read(*given)
    )
    rows = Vectors(held)
    for _ in range(2):
        for row in (0, 3, 6):  # one in each row group
            assert np.array_equal(rows.take(np.array([row])), np.ones((1, 3)))
    assert len(read) == reads
