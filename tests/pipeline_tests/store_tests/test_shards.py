"""A shard is committed whole or is not there."""

import json
from dataclasses import asdict, replace

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.store import ShardRecord, ShardWriter, VectorSpec
from pipeline.store.place import open_parquet, place
from pipeline.store.records import (
    FileRecord,
    parse_record,
    read_record,
    record_bytes,
    record_from_footer,
    shard_of,
)

SPEC = VectorSpec(4, "float16")


@pytest.fixture
def rows(made, shard_rows):
    def make(image_id, count, spec=SPEC):
        vectors = np.arange(count * spec.length).reshape(count, spec.length)
        windows = [[k, 0, k + 10, 10] for k in range(count)]
        return shard_rows(spec, image_id, made(vectors, windows))

    return make


def write(root, tables, *, row_group_bytes=1, spec=SPEC, quarantined=None, made_from="recipe"):
    with ShardWriter(root, "s", spec.schema(), row_group_bytes) as writer:
        for table in tables:
            writer.write(table)
        counts = {table["image_id"][0].as_py(): len(table) for table in tables}
        return writer.commit(made_from, counts, quarantined or {}, "inputs")


def read(root, record):
    with open_parquet(root, record.name("shards")) as file:
        return file.read()


def test_a_commit_writes_rows_and_record(root, rows, files):
    record = write(root, [rows("a", 3), rows("b", 2)], quarantined={"c": "torn"})
    digest = record.files["shards"].sha256
    name = f"shards/s-{digest[:12]}.parquet"
    assert list(files(root)) == [name, "records/s.json"]
    assert record == read_record(root, "s")
    assert record == ShardRecord(
        shard_id="s",
        made_from="recipe",
        files={"shards": FileRecord(len(files(root)[name]), 5, root.digest(name))},
        images={"a": 3, "b": 2},
        quarantined={"c": "torn"},
        input_sha256="inputs",
    )
    assert read(root, record)["image_id"].to_pylist() == ["a"] * 3 + ["b"] * 2


def test_equal_rows_give_equal_bytes_wherever_they_lie(root, rows, files, tmp_path):
    other = place(tmp_path / "other")
    for each in (root, other):
        write(each, [rows("a", 3), rows("b", 2)])
    assert files(root) == files(other)


def test_the_record_has_no_times(root, rows):
    write(root, [rows("a", 1)])
    assert sorted(json.loads(root.read("records/s.json"))) == [
        "files",
        "format",
        "images",
        "input_sha256",
        "made_from",
        "quarantined",
        "shard_id",
    ]


def test_the_footer_has_what_the_record_has(root, rows):
    record = write(root, [rows("a", 3)], quarantined={"c": "torn"})
    with open_parquet(root, record.name("shards")) as file:
        footer = file.metadata.metadata
        assert b"sppnet.record" not in (file.schema_arrow.metadata or {})
    assert record_from_footer(footer, record.files["shards"]) == record
    assert record_from_footer({}, record.files["shards"]) is None


def test_without_a_commit_nothing_is_left(root, rows, files):
    with ShardWriter(root, "s", SPEC.schema(), 1) as writer:
        writer.write(rows("a", 3))
    assert files(root) == {}


def torn(root, tables):
    with ShardWriter(root, "s", SPEC.schema(), 1) as writer:
        for table in tables:
            writer.write(table)
        raise KeyError("torn")


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_failure_leaves_nothing(root, rows, written, files):
    with pytest.raises(KeyError, match="torn"):
        torn(root, [rows(str(k), 2) for k in range(written)])
    assert files(root) == {}
    assert read_record(root, "s") is None


def test_a_failed_attempt_keeps_the_shard_that_is_there(root, rows):
    before = write(root, [rows("a", 3)])
    with pytest.raises(KeyError):
        torn(root, [rows("b", 2)])
    assert read_record(root, "s") == before
    assert read(root, before)["image_id"].to_pylist() == ["a"] * 3


def test_a_shard_that_is_committed_stays_as_it_is(root, rows, files):
    first = write(root, [rows("a", 3)])
    held = files(root)
    assert write(root, [rows("a", 3)]) == first
    assert files(root) == held
    assert write(root, [rows("a", 4)]) == first  # other bytes: the record that is there counts
    assert files(root) == held


def test_a_shard_made_from_something_else_is_refused(root, rows, files):
    write(root, [rows("a", 3)])
    held = files(root)
    says = "shard s of .* was made from recipe, and now from another: choose another run directory"
    with pytest.raises(InputError, match=says):
        write(root, [rows("a", 4)], made_from="another")
    assert files(root) == held


@pytest.mark.parametrize("torn_record", [b"", b'{"shard_id": "s"', b"\xff\xfe", b"[]"])
def test_a_torn_record_is_none_and_is_replaced(root, rows, torn_record, files):
    whole = write(root, [rows("a", 3)])
    held = files(root)
    root.replace("records/s.json", torn_record)
    assert read_record(root, "s") is None
    assert write(root, [rows("a", 3)]) == whole
    assert files(root) == held


def test_rows_that_do_not_reach_the_disk_are_noticed(root, rows, files):
    with ShardWriter(root, "s", SPEC.schema(), 1) as writer:
        writer.write(rows("a", 2))
        writer._parts["shards"]._rows += 1
        with pytest.raises(OSError, match=r"shards/s holds 2 rows; 3 were written"):
            writer.commit("recipe", {"a": 2}, {}, "")
    assert files(root) == {}


def test_bytes_that_are_not_ours_are_noticed(root, rows, files):
    with ShardWriter(root, "s", SPEC.schema(), 1) as writer:
        writer.write(rows("a", 2))
        aside = writer._parts["shards"]._aside
        with aside.open("ab") as other:
            other.write(b"x" * 100_000)
        says = r"holds 10\d,\d\d\d bytes of which 10\d,\d\d\d were read again; \d,\d\d\d bytes were"
        with pytest.raises(OSError, match=says):
            writer.commit("recipe", {"a": 2}, {}, "")
    assert files(root) == {}


def test_a_record_that_fails_leaves_no_commit(tmp_path, rows):
    (tmp_path / "records" / "s.json").mkdir(parents=True)
    root = place(tmp_path)
    with pytest.raises(InputError, match="it is no file, but a folder"):
        write(root, [rows("a", 2)])
    (left,) = root.listing("shards")
    assert shard_of(left)[0] == "s"  # without its record no reader counts it
    assert root.listing("records") == {}


def groups(root, record):
    with open_parquet(root, record.name("shards")) as file:
        held = [file.read_row_group(k)["image_id"].to_pylist() for k in range(file.num_row_groups)]
    return ["".join(ids) for ids in held]


def test_row_groups_hold_whole_images(tmp_path, rows):
    tables = [rows("a", 3), rows("b", 2), rows("c", 2), rows("d", 1)]
    each = [table.nbytes for table in tables]
    expected = {
        1: ["aaa", "bb", "cc", "d"],
        each[0] + 1: ["aaabb", "ccd"],
        10**9: ["aaabbccd"],
    }
    for size, cut in expected.items():
        root = place(tmp_path / str(size))
        assert groups(root, write(root, tables, row_group_bytes=size)) == cut


@pytest.mark.parametrize("layout", ["binary", "list"])
def test_a_shard_of_no_rows(root, rows, layout):
    spec = VectorSpec(4, "float16", layout)
    record = write(root, [], spec=spec, quarantined={"a": "torn"})
    assert record.rows == 0
    assert read(root, record).num_rows == 0
    with ShardWriter(root, "t", spec.schema(), 1) as writer:
        writer.write(rows("a", 0, spec))
        assert writer.commit("recipe", {"a": 0}, {}, "").images == {"a": 0}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_list_shard_needs_nothing_of_ours(tmp_path, rows, dtype):
    spec = VectorSpec(4, dtype, "list")
    record = write(place(tmp_path), [rows("a", 3, spec)], spec=spec)
    path = tmp_path / record.name("shards")
    expected = np.arange(12.0).reshape(3, 4).tolist()
    assert pq.read_table(path)["vector"].to_pylist() == expected
    with duckdb.connect() as connection:
        found = connection.execute("SELECT vector, x_max FROM read_parquet($1)", [str(path)])
        assert [list(vector) for vector, _ in found.fetchall()] == expected


def test_vectors_are_stored_plainly(tmp_path, rows):
    record = write(place(tmp_path), [rows("a", 3)])
    metadata = pq.read_metadata(tmp_path / record.name("shards")).row_group(0)
    vector = metadata.column(metadata.num_columns - 1)
    assert vector.path_in_schema == "vector"
    assert vector.compression == "UNCOMPRESSED"
    assert not vector.has_dictionary_page
    assert vector.statistics is None
    assert metadata.column(0).statistics.max == "a"  # readers skip groups by it


@pytest.mark.parametrize("content", [None, [], 3, {}, {"shard_id": "s"}, "text"])
def test_what_is_no_record(content):
    assert parse_record(content) is None


def test_names_that_lead_out_of_the_store_are_in_no_record(tmp_path, rows):
    record = write(place(tmp_path), [rows("a", 1)])
    assert parse_record(asdict(record)) == record
    assert parse_record(json.loads(record_bytes(record))) == record
    assert parse_record(asdict(record) | {"shard_id": "../s"}) is None
    assert parse_record(asdict(record) | {"shard_id": "/etc/s"}) is None
    for digest in ("../../../x", record.files["shards"].sha256[:-1], "A" * 64):
        files = {"shards": replace(record.files["shards"], sha256=digest)}
        assert parse_record(asdict(replace(record, files=files))) is None


def test_records_of_other_formats_and_folders_are_none(tmp_path, rows):
    content = asdict(write(place(tmp_path), [rows("a", 1)]))
    file = content["files"]["shards"]
    assert parse_record(content | {"format": 2}) is None
    assert parse_record(content | {"files": {"shards": file, "../x": file}}) is None
    assert parse_record(content | {"files": {"maps": file}}) is None
    assert (
        parse_record(content | {"files": {"shards": file, "maps": file}}).bytes == 2 * file["bytes"]
    )
