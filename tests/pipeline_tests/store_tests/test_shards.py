"""A shard is committed whole or is not there."""

import json
from dataclasses import asdict

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.store import ShardRecord, ShardWriter, VectorSpec
from pipeline.store.files import file_sha256
from pipeline.store.records import FileRecord, parse_record, read_record

SPEC = VectorSpec(4, "float16")


@pytest.fixture
def rows(made, shard_rows):
    def make(image_id, count, spec=SPEC):
        vectors = np.arange(count * spec.length).reshape(count, spec.length)
        windows = [[k, 0, k + 10, 10] for k in range(count)]
        return shard_rows(spec, image_id, made(vectors, windows))

    return make


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def write(root, tables, *, row_group_bytes=1, spec=SPEC, quarantined=None):
    with ShardWriter(root, "s", spec.schema(), row_group_bytes) as writer:
        for table in tables:
            writer.write(table)
        counts = {table["image_id"][0].as_py(): len(table) for table in tables}
        return writer.commit("recipe", counts, quarantined or {}, "inputs")


def test_a_commit_writes_rows_and_record(tmp_path, rows):
    record = write(tmp_path, [rows("a", 3), rows("b", 2)], quarantined={"c": "torn"})
    assert files(tmp_path) == ["records/s.json", "shards/s.parquet"]
    held = tmp_path / "shards/s.parquet"
    assert record == read_record(tmp_path, "s")
    assert record == ShardRecord(
        shard_id="s",
        made_from="recipe",
        files={"shards": FileRecord(held.stat().st_size, 5, file_sha256(held))},
        images={"a": 3, "b": 2},
        quarantined={"c": "torn"},
        input_sha256="inputs",
    )
    assert pq.read_table(held)["image_id"].to_pylist() == ["a"] * 3 + ["b"] * 2


def test_equal_rows_give_equal_bytes(tmp_path, rows):
    for name in ("one", "other"):
        write(tmp_path / name, [rows("a", 3), rows("b", 2)])
    for file in ("records/s.json", "shards/s.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_the_record_has_no_times(tmp_path, rows):
    write(tmp_path, [rows("a", 1)])
    assert sorted(json.loads((tmp_path / "records/s.json").read_text())) == [
        "files",
        "format",
        "images",
        "input_sha256",
        "made_from",
        "quarantined",
        "shard_id",
    ]


def test_without_a_commit_nothing_is_left(tmp_path, rows):
    with ShardWriter(tmp_path, "s", SPEC.schema(), 1) as writer:
        writer.write(rows("a", 3))
    assert files(tmp_path) == []


def torn(root, tables):
    with ShardWriter(root, "s", SPEC.schema(), 1) as writer:
        for table in tables:
            writer.write(table)
        raise KeyError("torn")


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_failure_leaves_nothing(tmp_path, rows, written):
    with pytest.raises(KeyError, match="torn"):
        torn(tmp_path, [rows(str(k), 2) for k in range(written)])
    assert files(tmp_path) == []
    assert read_record(tmp_path, "s") is None


def test_a_failed_attempt_keeps_the_shard_that_is_there(tmp_path, rows):
    before = write(tmp_path, [rows("a", 3)])
    with pytest.raises(KeyError):
        torn(tmp_path, [rows("b", 2)])
    assert read_record(tmp_path, "s") == before
    assert pq.read_table(tmp_path / "shards/s.parquet")["image_id"].to_pylist() == ["a"] * 3


def test_rows_that_do_not_reach_the_disk_are_noticed(tmp_path, rows):
    with ShardWriter(tmp_path, "s", SPEC.schema(), 1) as writer:
        writer.write(rows("a", 2))
        writer._parts["shards"]._rows += 1
        with pytest.raises(OSError, match=r"s.parquet holds 2 rows; 3 were written"):
            writer.commit("recipe", {"a": 2}, {}, "")
    assert files(tmp_path) == []


def test_bytes_that_are_not_ours_are_noticed(tmp_path, rows):
    with ShardWriter(tmp_path, "s", SPEC.schema(), 1) as writer:
        writer.write(rows("a", 2))
        (aside,) = (tmp_path / "shards").iterdir()
        held = aside.read_bytes()
        aside.write_bytes(held + b"x" * 100_000)
        says = r"holds 10\d,\d\d\d bytes of which 10\d,\d\d\d were read again; \d,\d\d\d bytes were"
        with pytest.raises(OSError, match=says):
            writer.commit("recipe", {"a": 2}, {}, "")
    assert files(tmp_path) == []


def test_a_record_that_fails_leaves_no_commit(tmp_path, rows):
    (tmp_path / "records" / "s.json").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write(tmp_path, [rows("a", 2)])
    assert files(tmp_path) == ["shards/s.parquet"]  # without its record no reader counts it


def groups(path):
    with pq.ParquetFile(path) as file:
        held = [file.read_row_group(k)["image_id"].to_pylist() for k in range(file.num_row_groups)]
    return ["".join(ids) for ids in held]


def test_row_groups_hold_whole_images(tmp_path, rows):
    tables = [rows("a", 3), rows("b", 2), rows("c", 2), rows("d", 1)]
    each = [table.nbytes for table in tables]
    write(tmp_path, tables, row_group_bytes=1)
    assert groups(tmp_path / "shards/s.parquet") == ["aaa", "bb", "cc", "d"]
    write(tmp_path, tables, row_group_bytes=each[0] + 1)
    assert groups(tmp_path / "shards/s.parquet") == ["aaabb", "ccd"]
    write(tmp_path, tables, row_group_bytes=10**9)
    assert groups(tmp_path / "shards/s.parquet") == ["aaabbccd"]


@pytest.mark.parametrize("layout", ["binary", "list"])
def test_a_shard_of_no_rows(tmp_path, rows, layout):
    spec = VectorSpec(4, "float16", layout)
    record = write(tmp_path, [], spec=spec, quarantined={"a": "torn"})
    assert record.rows == 0
    assert pq.read_table(tmp_path / "shards/s.parquet").num_rows == 0
    with ShardWriter(tmp_path, "t", spec.schema(), 1) as writer:
        writer.write(rows("a", 0, spec))
        assert writer.commit("recipe", {"a": 0}, {}, "").images == {"a": 0}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_list_shard_needs_nothing_of_ours(tmp_path, rows, dtype):
    spec = VectorSpec(4, dtype, "list")
    write(tmp_path, [rows("a", 3, spec)], spec=spec)
    path = tmp_path / "shards/s.parquet"
    expected = np.arange(12.0).reshape(3, 4).tolist()
    assert pq.read_table(path)["vector"].to_pylist() == expected
    with duckdb.connect() as connection:
        found = connection.execute("SELECT vector, x_max FROM read_parquet($1)", [str(path)])
        assert [list(vector) for vector, _ in found.fetchall()] == expected


def test_vectors_are_stored_plainly(tmp_path, rows):
    write(tmp_path, [rows("a", 3)])
    metadata = pq.read_metadata(tmp_path / "shards/s.parquet").row_group(0)
    vector = metadata.column(metadata.num_columns - 1)
    assert vector.path_in_schema == "vector"
    assert vector.compression == "UNCOMPRESSED"
    assert not vector.has_dictionary_page
    assert vector.statistics is None
    assert metadata.column(0).statistics.max == "a"  # readers skip groups by it


@pytest.mark.parametrize("content", [None, [], 3, {}, {"shard_id": "s"}, "text"])
def test_what_is_no_record(content):
    assert parse_record(content) is None


def test_an_id_that_leads_out_of_the_store_is_no_record(tmp_path, rows):
    record = write(tmp_path, [rows("a", 1)])
    assert parse_record(asdict(record)) == record
    assert parse_record(asdict(record) | {"shard_id": "../s"}) is None
    assert parse_record(asdict(record) | {"shard_id": "/etc/s"}) is None


def test_records_of_other_formats_and_folders_are_none(tmp_path, rows):
    content = asdict(write(tmp_path, [rows("a", 1)]))
    file = content["files"]["shards"]
    assert parse_record(content | {"format": 1}) is None
    assert parse_record(content | {"files": {"shards": file, "../x": file}}) is None
    assert parse_record(content | {"files": {"maps": file}}) is None
    assert (
        parse_record(content | {"files": {"shards": file, "maps": file}}).bytes == 2 * file["bytes"]
    )
