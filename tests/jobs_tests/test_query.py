"""`spp query`: tables, CSV, JSON and files, plans, and classifiers from their folder."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.learning.classifiers import Classifiers
from pipeline.store import Vectors
from pipeline.store.place import place
from pipeline.store.schema import DETECTIONS
from tests import small_store

Run = Callable[..., Any]
ODD = 'a "b", <c>\n🦓'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of twelve windows."""
    small_store.make(place(tmp_path / "store"))
    return tmp_path / "store"


def sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_a_table_shows_the_first_numbers_of_a_vector(root: Path, spp: Run) -> None:
    said = spp("query", root, "SELECT window_id, vector FROM windows WHERE image_id = 'c' LIMIT 1")
    first = Vectors(store.open(root)).take(np.array([7]))[0, :4]
    numbers = ", ".join(f"{number:.4g}" for number in first.astype(float))
    assert said.out.splitlines()[1].rstrip().split(maxsplit=1) == ["0", f"[{numbers}, … 50]"]


def test_a_table_has_a_hundred_rows_and_says_so(
    root: Path, spp: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, original = [], Vectors.parts

    def parts(self: Vectors, rows: Any) -> Any:
        read.extend(rows.tolist())
        return original(self, rows)

    monkeypatch.setattr(Vectors, "parts", parts)
    said = spp("query", root, "SELECT vector FROM windows, range(50)")
    assert len(said.out.splitlines()) == 101
    assert said.err == "100 of 600 rows; --out FILE writes all\n"
    assert len(read) == 100


def test_csv_as_rfc_4180_has_it(root: Path, spp: Run) -> None:
    query = (
        f'SELECT 0.1::FLOAT AS f, 1.50 AS d, true AS b, NULL AS n, {sql_text(ODD)} AS "o,", '
        "['x', NULL] AS l, vec({'vector_row': NULL::BIGINT}) AS v, sum(window_id) AS s FROM windows"
    )
    said = spp("query", root, query, "--format", "csv")
    assert said.code == 0
    assert said.out.startswith('f,d,b,n,"o,",l,v,s\r\n0.1,1.50,true,,"a ""b"", <c>\n')
    head, row = csv.reader(io.StringIO(said.out, newline=""))
    assert row == ["0.1", "1.50", "true", "", ODD, '["x", null]', "", "19"]
    assert head[4] == "o,"
    vectors = spp("query", root, "SELECT vector FROM windows LIMIT 1", "--format", "csv").out
    (cell,) = list(csv.reader(io.StringIO(vectors, newline="")))[1]
    assert len(json.loads(cell)) == 50


def test_json_has_numbers_as_numbers(root: Path, spp: Run) -> None:
    query = (
        f"SELECT 0.1::FLOAT AS f, 1.5 AS d, sum(window_id) AS s, {sql_text(ODD)} AS o, "
        "'nan'::DOUBLE AS n, DATE '2026-01-02' AS t, 'ab'::BLOB AS b, {'a': [2.5]} AS x "
        "FROM windows"
    )
    expected = {"f": 0.1, "d": 1.5, "s": 19, "o": ODD, "n": None, "t": "2026-01-02"}
    expected |= {"b": "6162", "x": {"a": [2.5]}}
    said = spp("query", root, query, "--format", "json")
    assert json.loads(said.out) == [expected]
    assert "🦓" in said.out
    assert spp("query", root, query, "--json").out == said.out
    none = spp("query", root, "SELECT 1 AS a WHERE false", "--json")
    assert json.loads(none.out) == []


@pytest.mark.parametrize("kind", ["TIMESTAMP", "DATE", "TIMESTAMPTZ"])
@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_a_time_that_python_does_not_know_is_an_error_with_the_way_out(
    root: Path, spp: Run, kind: str, format_: str
) -> None:
    query = f"SELECT 'infinity'::{kind} AS t"
    said = spp("query", root, query, "--format", format_)
    assert said.code == 1
    assert said.err.startswith("error: the column t of the answer has a value that ")
    assert "cast the column to VARCHAR" in said.err
    cast = spp("query", root, f"SELECT (t)::VARCHAR AS t FROM ({query})", "--json")
    assert json.loads(cast.out) == [{"t": "infinity"}]


def read_file(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".parquet":
            return pq.read_table(path).to_pylist()
        case ".json":
            return json.loads(path.read_text("utf-8"))
        case ".jsonl":
            return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {"image_id": row["image_id"], "window_id": int(row["window_id"])}
            | {"vector": json.loads(row["vector"])}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_files_hold_every_row_whole(root: Path, spp: Run, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"answer.{suffix}"
    query = "SELECT image_id, window_id, vector FROM windows ORDER BY image_id, window_id"
    said = spp("query", root, query, "--out", path)
    assert said.out == f"{path}: 12 rows\n"
    rows = read_file(path)
    assert [(row["image_id"], row["window_id"]) for row in rows[:4]] == [
        *(("a", 0), ("a", 1), ("a", 2), ("b", 0))
    ]
    vectors = Vectors(store.open(root)).take(np.arange(12)).astype(np.float32)
    assert np.array_equal(np.array([row["vector"] for row in rows], np.float32), vectors)
    as_json = spp("query", root, query, "--out", path, "--json")
    assert json.loads(as_json.out) == {"file": str(path), "rows": 12}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_parquet_file_opens_in_duckdb(root: Path, spp: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert spp("query", root, "SELECT vector FROM windows", "--out", path).code == 0
    with duckdb.connect() as connection:
        counted = f"SELECT count(*), min(len(vector)) FROM '{path}'"
        assert connection.execute(counted).fetchall() == [(12, 50)]


@pytest.mark.parametrize(
    ("query", "name", "says"),
    [
        ("SELECT 1", "a.txt", "a.txt: the name must end in .csv, .json, .jsonl, .parquet"),
        ("SELECT INTERVAL 1 DAY AS i", "a.parquet", "Cast the column in the query"),
        ("SELECT error('seven') FROM windows", "a.csv", "seven"),
    ],
)
def test_a_file_that_fails_leaves_nothing(
    root: Path, spp: Run, tmp_path: Path, query: str, name: str, says: str
) -> None:
    (tmp_path / "out").mkdir()
    said = spp("query", root, query, "--out", tmp_path / "out" / name)
    assert (said.code, says in said.err) == (1, True), said.err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_plan_instead_of_an_answer(root: Path, spp: Run) -> None:
    query = "SELECT error('ran') FROM windows WHERE image_id = 'a'"
    said = spp("query", root, query, "--explain")
    assert (said.code, "READ_PARQUET" in said.out) == (0, True)
    assert (
        "READ_PARQUET" in json.loads(spp("query", root, query, "--explain", "--json").out)["plan"]
    )


def test_classifiers_and_detections_come_from_their_folders(
    root: Path, spp: Run, tmp_path: Path
) -> None:
    for name, weight in (("one", 1.0), ("two", 2.0)):
        weights, zero = np.full((1, 50), weight, np.float32), np.zeros(1, np.float32)
        Classifiers((ODD,), weights, zero, 1.0, {}).save(tmp_path / name)
    (tmp_path / "found").mkdir()
    row = dict.fromkeys(DETECTIONS.names, 3.0) | {"image_id": "a", "class": ODD}
    pq.write_table(pa.Table.from_pylist([row], DETECTIONS), tmp_path / "found" / "00000.parquet")
    options = [part for name in ("one", "two") for part in ("--classifiers", tmp_path / name)]
    said = spp(
        *("query", root),
        "SELECT d.score AS d, score(d.class, vector) AS s, vector AS v FROM windows w "
        "JOIN detections d USING (image_id) WHERE window_id = 1",
        *(*options, "--detections", tmp_path / "found", "--json"),
    )
    (row,) = json.loads(said.out)
    assert row["d"] == 3.0
    assert row["s"] == pytest.approx(2 * sum(row["v"]), abs=1e-4)
    unknown = spp("query", root, "SELECT score('x', vector) FROM windows", *options)
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("error: no classifier knows the class 'x'; the 1 known are a ")
