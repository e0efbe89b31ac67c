"""What SQL over a store refuses, and in which words."""

import threading
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.store.bounds import Bounds
from pipeline.store.labels import write_labels
from pipeline.store.place import place
from pipeline.store.sql import OFF, explain
from tests import small_store
from tests.s3 import BUCKET


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (
            "SELECT array_inner_product(vector, vector) FROM windows",
            r"vec\(vector\) is FLOAT\[50\]",
        ),
        ("SELECT dot(vector, [1.0, 2.0]) FROM windows", "bound as a parameter"),
        (
            "SELECT list(vector) AS l FROM windows",
            r"column l .*inside of a list: use vec\(vector\)",
        ),
        ("SELECT {'a': [vector]} AS s FROM windows", "column s .*inside of a struct"),
        ("SELECT vec({'vector_row': 1099511627776::BIGINT})", "not of this store"),
        ("SELECT vec({'vector_row': 99::BIGINT})", "has 12 rows, and none has number 99"),
        ("SELECT vec({'vector_row': (-9)::BIGINT})", "not of this store"),
        (
            "SELECT vectr FROM windows",
            r"Binder Error.*\nCandidate bindings: .vector.$",
        ),
        ("SELECT 1 / 'x' FROM windows", "the query failed: Conversion Error"),
        ("SELECT 1 + FROM windows", r"syntax error at or near \"FROM\"$"),  # and no caret below
        ("SELECT error('seven') FROM windows", "the query failed: .*seven"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(stored, query, says):
    with pytest.raises(InputError, match=says) as said:
        stored.sql(query)
    assert "vector_row" not in str(said.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.ones(49), r"shape \[49\], and vectors of this store have 50"),
        (np.ones((1, 50)), r"shape \[1, 50\]"),
        (np.full(50, np.nan), "not finite"),
    ],
)
def test_a_parameter_that_is_no_vector_is_refused(stored, value, says):
    with pytest.raises(InputError, match=says):
        stored.sql("SELECT dot(vector, $q) FROM windows", {"q": value})


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM secret",  # of Python
        "SET lock_configuration = false",
        "SET memory_limit = '1TB'",
        "PRAGMA enable_profiling",
        "CALL enable_logging()",
        "SELECT * FROM enable_logging()",
        "LOAD json",
        "EXPLAIN SELECT 1",
        "CREATE TABLE t AS SELECT 1",
        "DELETE FROM detections",
        "SELECT * FROM read_json('{root}/store.json')",
        "SELECT * FROM read_blob('{root}/manifest.json')",
        "SELECT * FROM parquet_metadata('/etc/hostname')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{root}/x''')",
        "FROM load_aws_credentials()",
    ],
)
def test_nothing_but_the_store_is_within_reach(stored, query, files):
    secret = pa.table({"a": [1]})
    before = files(stored.root)
    for ask in (stored.sql, lambda text: explain(stored, text)):
        with pytest.raises(InputError, match=r"the query failed|give one SELECT"):
            ask(query.format(root=stored.root))
    assert files(stored.root) == before
    assert len(secret) == 1


@pytest.mark.parametrize(
    "query",
    [
        "FROM '{beside}/images.parquet'",
        "FROM read_parquet('{beside}/*.parquet')",
        "FROM read_blob('{root}/store.json')",
        "FROM read_text('{root}/../secret/images.parquet')",
        "FROM glob('{root}/*')",
        "FROM glob('{root}/*/*')",
        "FROM glob('{beside}/*')",
        "FROM glob('s3://spp/*')",
        "COPY (SELECT 1) TO '{root}/images.parquet'",
        "COPY (SELECT 1) TO '{beside}/x.parquet'",
    ],
)
def test_what_lies_beside_a_store_is_out_of_reach(beside_a_secret, query, files):
    held, beside = beside_a_secret
    before = files(held.root), beside.listing("")
    with pytest.raises(InputError, match=r"Cannot access|give one SELECT"):
        held.sql(query.format(root=held.root, beside=beside))
    assert (files(held.root), beside.listing("")) == before


@pytest.fixture(scope="module", params=["local", "s3"])
def beside_a_secret(request, tmp_path_factory):
    """A store in each kind of place, and a folder beside it that has a table of that name."""
    if request.param == "local":
        shared = place(tmp_path_factory.mktemp("shared"))
    else:
        request.getfixturevalue("s3_server")
        shared = place(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    root, beside = shared / "store", shared / "secret"
    small_store.make(root)
    beside.replace("images.parquet", root.read("images.parquet") or b"")
    return store.open(root), beside


def test_a_name_with_brackets_is_no_pattern(root):
    for name, count in (("b[x]", 3), ("bx", 1)):
        small_store.make(root / name)
        labels = pa.table({"image_id": ["a", "b", "c"][:count]})
        write_labels(root / name, "images.parquet", labels)
    for name, count in (("b[x]", 3), ("bx", 1)):
        query = "SELECT count(*) AS n, sum(dot(vector, vector)) AS d FROM windows, images"
        (said,) = store.open(root / name).sql(query).to_pylist()
        assert said["n"] == 12 * count
    # Nor does the name of one lead into the other.
    with pytest.raises(InputError, match="the query failed"):
        store.open(root / "bx").sql(f"FROM read_parquet('{root}/b[x]/images.parquet')")
    if root.far:
        with pytest.raises(InputError, match="Cannot access"):
            store.open(root / "b[x]").sql(f"FROM read_parquet('{root}/b[x]/images.parquet')")


def test_what_is_in_memory_is_refused():
    root = place(f"memory://{uuid.uuid4().hex}")
    small_store.make(root)
    with pytest.raises(InputError, match=r"^memory://.* is for tests, and SQL cannot read it"):
        store.open(root).sql("SELECT 1")


def test_what_does_not_fit_in_memory_goes_aside_and_is_gone_later(stored, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (aside,) = stored.sql("SELECT current_setting('temp_directory') AS t")["t"].to_pylist()
    assert Path(aside).is_absolute()
    assert not Path(aside).is_relative_to(tmp_path)
    assert not Path(aside).exists()


@pytest.mark.parametrize("setting", [*OFF, "enable_external_access"])
def test_what_is_switched_off_for_good(stored, setting):
    said = stored.sql("SELECT current_setting($name) AS value", {"name": setting})
    assert said["value"].to_pylist() == [False]


def test_labels_that_are_gone_are_named(stored):
    stored.root.remove("objects.parquet")
    with pytest.raises(InputError, match=r"objects\.parquet cannot be read \(it is missing\): run"):
        stored.sql("SELECT 1")


ALL = Bounds(limit_s=60.0, memory_bytes=1 << 30, aside_bytes=1 << 30)
ENDLESS = (
    "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE hash(a.range * b.range) = 3"
)


def test_a_query_ends_in_its_time(stored):
    said = r"^the query took more than 0\.2 s, the limit here: narrow it"
    with pytest.raises(InputError, match=said):
        stored.sql(ENDLESS, bounds=replace(ALL, limit_s=0.2))
    with pytest.raises(InputError, match=r"the query failed: .*nothing"):  # its own fault is told
        stored.sql("SELECT nothing", bounds=ALL)
    assert stored.sql("SELECT 2 + 3 AS n", bounds=ALL)["n"].to_pylist() == [5]


def test_a_query_ends_when_nobody_waits_for_it(stored):
    bounds = replace(ALL, stopped=threading.Event())
    threading.Timer(0.2, bounds.stopped.set).start()
    with pytest.raises(InputError, match="nobody waits for its answer"):
        stored.sql(ENDLESS, bounds=bounds)


def test_a_query_takes_no_more_of_the_disk_than_it_may(stored):
    tight = replace(ALL, memory_bytes=40 << 20, aside_bytes=10 << 20)
    wide = "SELECT range AS n, hash(range) AS h FROM range(5000000) ORDER BY h"
    with pytest.raises(InputError, match=r"max_temp_directory_size"):
        stored.sql(f"SELECT count(n) FROM ({wide} LIMIT 4999999)", bounds=tight)
