"""Rows, columns, conditions and SQL over a store."""

import uuid
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.datasets.records import Object
from pipeline.errors import InputError
from pipeline.store import VectorSpec, vectors
from pipeline.store.place import place
from pipeline.store.scan import scan_shard
from tests.s3 import BUCKET

CAT = Object("cat", (10.0, 10.0, 40.0, 30.0))
DOG = Object("dog", (0.0, 0.0, 7.0, 7.0), difficult=True)


@pytest.fixture
def shards(made):
    """Seven rows: vector [n, n, n] is row n."""

    def vectors(*numbers):
        return np.repeat(np.array(numbers)[:, None], 3, axis=1)

    return [
        {
            "a": made(vectors(0, 1, 2), [[0, 0, 7, 7], [10, 10, 40, 30]], (CAT,)),
            "b": made(vectors(), [], ()),
            "c": made(vectors(3, 4), [[5, 5, 90, 90]], (DOG,)),
        },
        {"d": made(vectors(5, 6), [[0, 0, 20, 20]], (CAT,))},
    ]


@pytest.fixture(params=["binary", "list"])
def layout(request):
    return request.param


@pytest.fixture
def held(make_store, root, shards, layout):
    return make_store(root, shards, 3, "float16", layout)


def numbers(tables):
    return [int(vector[0]) for table in tables for vector in vectors(table)]


def test_everything_in_order(held):
    assert len(held) == 7
    assert numbers(held.scan()) == [0, 1, 2, 3, 4, 5, 6]
    ids = [
        image_id for table in held.scan(["image_id"]) for image_id in table["image_id"].to_pylist()
    ]
    assert ids == ["a", "a", "a", "c", "c", "d", "d"]


def test_a_store_says_what_it_holds(held, layout):
    assert held.spec == VectorSpec(3, "float16", layout)
    assert held.made_from == {"network": "none", "layer": "pool5"}
    assert [entry.shard_id for entry in held.shards] == ["00000", "00001"]
    assert held.images["image_id"].to_pylist() == ["a", "b", "c", "d"]
    assert held.objects["class"].to_pylist() == ["cat", "dog", "cat"]
    assert held.objects["difficult"].to_pylist() == [False, True, False]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("window_id = 0", [0, 3, 5]),
        ("source = 'ground_truth'", [2, 4, 6]),
        ("x_max - x_min > 29 AND image_id < 'd'", [1, 2, 3]),
        ("window_id = 0 OR window_id = 1", [0, 1, 3, 4, 5, 6]),
        ("scale_px = 688", []),
    ],
)
def test_conditions(held, where, found):
    assert numbers(held.scan(where=where)) == found


def test_classes_are_windows_that_are_an_object_of_the_class(held):
    # row 1 is a proposed window with the very box of image a's cat
    assert numbers(held.scan(classes=["cat"])) == [1, 2, 6]
    assert numbers(held.scan(classes=["dog", "cat"])) == [1, 2, 4, 6]
    assert numbers(held.scan(classes=["cat"], where="source = 'ground_truth'")) == [2, 6]
    # "or" in the condition does not undo the classes
    assert numbers(held.scan(classes=["dog"], where="true OR true")) == [4]
    assert numbers(held.scan(classes=["bird"])) == []
    assert numbers(held.scan(classes=[])) == []


def test_only_the_columns_asked_for(held):
    tables = list(held.scan(["x_max", "image_id"], where="window_id = 1"))
    assert [table.column_names for table in tables] == [["x_max", "image_id"]] * 3
    assert [table["x_max"].to_pylist() for table in tables] == [[40], [7], [40]]


def test_groups_without_a_match_are_neither_read_nor_yielded(held, monkeypatch):
    read = []
    original = pq.ParquetFile.read_row_group

    def counted(self, group, columns, **options):
        read.extend([group] if "vector" in columns else [])
        return original(self, group, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    tables = list(held.scan(where="image_id = 'c'"))
    assert numbers(tables) == [3, 4]
    assert len(tables) == 1
    assert read == [1]


def test_unknown_columns_and_conditions_are_named(held):
    with pytest.raises(
        InputError, match=r"00000-\w+.parquet has no column width; it has image_id, "
    ):
        list(held.scan(["image_id", "width"]))
    with pytest.raises(InputError, match=r"the condition 'widht > 3' cannot be used: .*widht"):
        list(held.scan(where="widht > 3"))
    with pytest.raises(InputError, match="cannot be used"):
        list(held.scan(where="window_id = "))
    with pytest.raises(InputError, match=r"(?s)cannot be used: .*disabled"):
        list(held.scan(where="image_id IN (SELECT content FROM read_text('/etc/hostname'))"))


def test_sql_over_three_tables(held):
    counted = held.sql(
        "SELECT i.image_id, count(w.window_id) AS windows FROM images i "
        "LEFT JOIN windows w USING (image_id) GROUP BY ALL ORDER BY 1"
    )
    assert counted.to_pydict() == {"image_id": ["a", "b", "c", "d"], "windows": [3, 0, 2, 2]}
    joined = held.sql(
        "SELECT w.image_id FROM windows w JOIN objects o USING (image_id, x_min, x_max) "
        "WHERE o.class = 'cat' ORDER BY w.image_id, w.window_id"
    )
    assert joined["image_id"].to_pylist() == ["a", "a", "d"]
    assert held.sql("FROM windows;").num_rows == 7
    assert "vector" in held.sql("DESCRIBE windows")["column_name"].to_pylist()


def test_sql_sees_the_vectors(held):
    said = held.sql("SELECT window_id, vector FROM windows WHERE image_id = 'd' ORDER BY 1")
    assert said["vector"].to_pylist() == [[5, 5, 5], [6, 6, 6]]


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{root}/stolen.csv'",
        "COPY (SELECT 1 AS x) TO '{shard}' (FORMAT parquet, USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{shard}' (FORMAT parquet, USE_TMP_FILE false)",
        "SELECT 1; COPY (SELECT 1 AS x) TO '{shard}' (FORMAT parquet, USE_TMP_FILE false)",
        "ATTACH '{root}/new.db'",
        "ATTACH '{shard}' AS z",
        "EXPORT DATABASE '{root}/all'",
        "SELECT * FROM read_csv('/etc/hostname')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '{root}/store.json'",
        "SELECT * FROM glob('/etc/*')",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM windwos",
        "SELEC 1",
        "",
        "-- nothing",
    ],
)
def test_sql_reads_nothing_else_and_writes_nothing(held, query, files):
    before = files(held.root)
    shard = f"{held.root}/{held.shards[0].name('shards')}"
    with pytest.raises(InputError, match=r"the query failed|give one SELECT"):
        held.sql(query.format(root=held.root, shard=shard))
    assert files(held.root) == before
    assert held.verify() == []


def test_odd_folder_names(make_store, tmp_path, shards):
    root = tmp_path / "it's [a] *store?"
    make_store(root, shards, 3)
    for held in (store.open(root), store.open(str(root)), store.open(root.as_uri())):
        assert held.sql("SELECT count(*) AS n FROM windows")["n"].to_pylist() == [7]
        assert numbers(held.scan()) == list(range(7))


def test_what_is_no_finished_store(make_store, tmp_path, shards):
    with pytest.raises(InputError, match=r"nowhere is not a store: it has no manifest.json"):
        store.open(tmp_path / "nowhere")
    make_store(tmp_path / "begun", shards, 3, finished=False)
    with pytest.raises(InputError, match="begun is not finished: run its recipe again"):
        store.open(tmp_path / "begun")


def test_where_there_is_no_bucket(s3_server):
    del s3_server
    with pytest.raises(InputError, match=r"s3://no-such/x is not a store: it has no manifest"):
        store.open("s3://no-such/x")


def test_a_shard_that_is_gone_is_named(held):
    name = held.shards[1].name("shards")
    held.root.remove(name)
    for read in (lambda: list(held.scan()), lambda: held.sql("FROM windows")):
        with pytest.raises(InputError, match=f"{name} is missing: see spp verify"):
            read()


def test_what_is_read_of_an_object_store(make_store, s3_server, shards):
    """A query over small columns does not fetch the vectors."""
    dim = 5000  # 10 KB a row
    wide = [
        {k: replace(one, vectors=np.ones((len(one.vectors), dim))) for k, one in shard.items()}
        for shard in shards
    ]
    held = make_store(place(f"s3://{BUCKET}/{uuid.uuid4().hex}"), wide, dim, "float32")
    (size,) = {entry.bytes for entry in held.shards if entry.shard_id == "00000"}
    assert size > 5 * 4 * dim
    fetched = []
    read = type(held.root).read_range

    def counted(root, name, start, stop):
        fetched.append(stop - start)
        return read(root, name, start, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(held.root), "read_range", counted)
        (table,) = scan_shard(held, "00000", ["window_id"], where="image_id = 'c'")
        assert table["window_id"].to_pylist() == [0, 1]
    footer = 1 << 16  # what is read of any Parquet file's end
    assert sum(fetched) < footer + 2 * 4 * dim
    before = len(s3_server.requests)
    assert held.sql("SELECT sum(window_id) AS n FROM windows")["n"].to_pylist() == [5]
    assert len(s3_server.requests) > before


def test_a_store_of_quarantined_images_only(root, make_store):
    held = make_store(root, [{}], 3)
    assert len(held) == 0
    assert list(held.scan()) == []
    assert held.sql("SELECT count(*) AS n FROM windows")["n"].to_pylist() == [0]
    assert held.verify() == []
