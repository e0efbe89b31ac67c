"""What SQL over a store refuses, and in which words."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.store.sql import OFF, explain


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
