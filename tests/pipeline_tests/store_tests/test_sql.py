"""Vectors in SQL: read where they are asked for, and the same from every kind of store."""

import gc
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.search.nearest import nearest
from pipeline.store import answer
from pipeline.store.blocks import query
from pipeline.store.place import place
from pipeline.store.rows import Vectors
from pipeline.store.sql import asking, explain
from tests import small_store


@pytest.fixture(params=["windows", "maps"])
def held(request, root):
    """Twelve rows: a0 a1 a2, b0 to b3, c0 to c4, in two shards."""
    small_store.make(root, request.param == "maps")
    return store.open(root)


def test_vectors_belong_to_their_rows(held, scanned):
    said = held.sql(
        "SELECT window_id, vector FROM windows WHERE window_id = 2 OR image_id = 'c' "
        "ORDER BY image_id DESC, window_id DESC"
    )
    assert said["window_id"].to_pylist() == [4, 3, 2, 1, 0, 2, 2]
    assert said.schema.field("vector").type == pa.list_(pa.float32(), 50)
    wanted = scanned(held)[[11, 10, 9, 8, 7, 5, 2]]
    assert np.array_equal(said["vector"].to_pylist(), wanted)
    as_list = held.sql(
        "SELECT vec(vector) AS v FROM windows WHERE image_id = 'b' ORDER BY window_id"
    )
    assert np.array_equal(as_list["v"].to_pylist(), scanned(held)[3:7])


def test_products_and_cosines_are_those_of_float64(held, scanned):
    rows, given = scanned(held), np.random.default_rng(0).normal(size=50)
    said = held.sql(
        "SELECT dot(vector, $q) AS d, cosine($q, vector) AS c "
        "FROM windows ORDER BY image_id, window_id",
        {"q": given},
    )
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(given)
    assert np.allclose(said["d"].to_numpy(), rows @ given, atol=1e-5)
    assert np.allclose(said["c"].to_numpy(), rows @ given / lengths, atol=1e-6)


def test_scores_are_those_of_the_classifiers(held, known, scanned):
    cats = known("cat", "dog", made_from={"network": "none"})
    said = held.sql(
        "SELECT score('dog', vector) AS dog, score('cat', vector) AS cat "
        "FROM windows ORDER BY image_id, window_id",
        classifiers=[cats],
    )
    scores = cats.score(scanned(held).astype(np.float32))
    assert np.array_equal(np.stack([said["cat"], said["dog"]], axis=1), scores)


def test_a_vector_of_another_row_may_be_the_other_one(stored, scanned):
    rows = scanned(stored)
    said = stored.sql(
        "SELECT dot(vector, (SELECT vector FROM windows WHERE image_id = 'b' AND window_id = 1)) "
        "AS d FROM windows ORDER BY image_id, window_id"
    )
    assert np.allclose(said["d"].to_numpy(), rows @ rows[4], atol=1e-5)
    each = stored.sql(
        "SELECT dot(one.vector, other.vector) AS d FROM windows one, windows other "
        "ORDER BY one.image_id, one.window_id, other.image_id, other.window_id"
    )
    assert np.allclose(each["d"].to_numpy(), (rows @ rows.T).reshape(-1), atol=1e-5)
    alone = stored.sql("SELECT dot(?, ?) AS d, vec(?) AS v, ? AS n", [rows[0], rows[1], rows[2], 7])
    assert alone["d"][0].as_py() == pytest.approx(rows[0] @ rows[1])
    assert (alone["v"][0].as_py(), alone["n"][0].as_py()) == (rows[2].tolist(), 7)


def test_a_vector_of_zeros_is_like_no_other(make_store, made, tmp_path):
    image = made([[0, 0, 0], [3, 0, 4]], [[0, 0, 5, 5], [1, 1, 6, 6]])
    held = make_store(tmp_path, [{"a": image}], 3)
    said = held.sql(
        "SELECT window_id, cosine(vector, ?) AS c FROM windows ORDER BY c DESC",
        [np.array([1.0, 0, 0])],
    )
    assert said.to_pydict() == {"window_id": [1, 0], "c": [pytest.approx(3 / 5), 0.0]}


def test_what_has_no_vector_has_no_score(stored, known):
    said = stored.sql(
        "SELECT n, w.vector AS v, vec(w.vector) AS l, dot(w.vector, $q) AS d, "
        "cosine($q, w.vector) AS c, score('cat', w.vector) AS s, score(NULL, w.vector) AS nobody "
        "FROM range(2) r(n) LEFT JOIN windows w ON w.image_id = 'a' AND w.window_id = n - 1 "
        "ORDER BY n",
        {"q": np.ones(50)},
        [known("cat")],
    ).to_pylist()
    assert said[0] == {
        "n": 0,
        "v": None,
        "l": None,
        "d": None,
        "c": None,
        "s": None,
        "nobody": None,
    }
    assert [said[1][name] is None for name in "vldcs"] == [False] * 5
    assert said[1]["nobody"] is None


def test_vectors_are_read_only_for_the_rows_that_are_left(stored, known, rows_read):
    assert len(stored.sql("SELECT * EXCLUDE vector FROM windows")) == 12
    assert rows_read == []
    said = stored.sql("SELECT * FROM windows WHERE image_id = 'b' AND window_id > 1")
    assert (len(said), sorted(rows_read)) == (2, [5, 6])
    rows_read.clear()
    best = stored.sql(
        "SELECT * FROM windows WHERE image_id = 'c' ORDER BY score('cat', vector) DESC LIMIT 1",
        classifiers=[known("cat")],
    )
    assert sorted(rows_read[:5]) == [7, 8, 9, 10, 11]
    assert set(rows_read[5:]) == {7 + best["window_id"][0].as_py()}


def test_several_classes_of_a_row_read_it_once(stored, known, rows_read):
    query = "SELECT score('a', vector), score('b', vector) FROM windows"
    stored.sql(query, classifiers=[known("a", "b")])
    assert sorted(rows_read) == list(range(12))


def test_answers_come_in_parts_of_bounded_size(stored, monkeypatch):
    monkeypatch.setattr(answer, "FILLED_BYTES", 2 * 50 * 4)
    with asking(stored, "SELECT window_id, vector FROM windows") as said:
        parts = list(said)
    assert sum(len(part) for part in parts) == 12
    assert max(len(part) for part in parts) == 2
    assert {part.schema for part in parts} == {said.schema}


def test_an_answer_without_rows_has_its_columns(stored):
    said = stored.sql("SELECT vector, score('cat', vector) AS s FROM windows WHERE window_id > 99")
    assert said.schema.types == [pa.list_(pa.float32(), 50), pa.float32()]


def test_how_a_store_describes_itself(stored):
    said = stored.sql("DESCRIBE windows").to_pylist()
    assert [row["column_type"] for row in said if row["column_name"] == "vector"] == ["FLOAT[50]"]


def test_columns_of_one_name_are_told_apart(stored):
    said = stored.sql("SELECT 1 AS a, 2 AS a, 3 AS a_1, vector, vector FROM windows LIMIT 1")
    assert said.column_names == ["a", "a_2", "a_1", "vector", "vector_1"]
    assert said["a_2"].to_pylist() == [2]


def test_readers_go_by_the_manifest_that_they_opened(tmp_path):
    root = place(tmp_path)
    small_store.make(root)
    held, query = store.open(root), "SELECT vector FROM windows ORDER BY image_id, window_id"
    before = held.sql(query)
    # A shard is made anew beside the old one, and the manifest replaced.
    root.remove("records/00001.json")
    small_store.write_shard(root, "00001", maps=False, flavour=1)
    store.finish(root, list(small_store.SHARDS))
    again = store.open(root)
    after = again.sql(query)
    assert after.slice(0, 7).equals(before.slice(0, 7))
    assert not after.slice(7).equals(before.slice(7))
    root.remove(again.shards[1].name("shards"))
    assert held.sql(query).equals(before)


def test_a_plan_reads_no_vector(stored, known, rows_read):
    query = "SELECT * FROM windows WHERE image_id = 'c' ORDER BY score('cat', vector) LIMIT 3;"
    plan = explain(stored, query, classifiers=[known("cat")])
    assert "READ_PARQUET" in plan
    assert "image_id='c'" in plan.replace(" ", "")
    assert rows_read == []


def test_names_of_folders_are_no_columns(tmp_path):
    root = place(tmp_path / "split=other" / "layer=fc7" / "store")
    small_store.make(root)
    held = store.open(root)
    assert set(held.sql("SELECT split FROM windows")["split"].to_pylist()) == {"train"}
    assert "layer" not in held.sql("SELECT * FROM images").column_names


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
@pytest.mark.parametrize("ending", ["", ", error('ends in the middle')", ", score('x', vector)"])
def test_a_query_closes_its_files_when_it_ends(stored, known, ending):
    query = f"SELECT dot(vector, $q), score('cat', vector){ending} FROM windows"
    gc.collect()
    gc.disable()  # which would close files of circles, too, now or later
    try:
        for _ in range(3):
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(InputError) if ending else nullcontext():
                stored.sql(query, {"q": np.ones(50)}, [known("cat")])
            assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_who_asks_often_may_bring_the_vectors(stored, monkeypatch):
    vectors, asked = Vectors(stored), "SELECT vector FROM windows"
    before = stored.sql(asked)
    opened, original = [], Vectors._shard
    monkeypatch.setattr(
        Vectors, "_shard", lambda self, number: opened.append(self) or original(self, number)
    )
    assert stored.sql(asked, vectors=vectors).equals(before)
    assert stored.sql(asked, vectors=vectors).equals(before)
    assert {id(each) for each in opened} == {id(vectors)}


def test_a_cosine_is_that_of_a_search_and_at_most_1(stored):
    (row,) = Vectors(stored).take(np.array([4]))
    said = stored.sql("SELECT cosine(vector, $q) AS c FROM windows", {"q": row})["c"]
    (found,) = nearest(Vectors(stored), [query(row)], 12)
    assert sorted(said.to_pylist(), reverse=True) == found.scores.astype(np.float32).tolist()
    same = stored.sql("SELECT cosine(vector, vector) AS c FROM windows")["c"].to_numpy()
    assert same.max() == 1
