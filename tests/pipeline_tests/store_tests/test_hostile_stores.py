"""Stores that others made, or damaged on purpose: nothing outside is touched, nothing is believed.

Each is a small store that was written as usual, and of which one thing is then not as it was.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.search.compacting import build
from pipeline.store import schema
from pipeline.store.place import place
from pipeline.store.portable import export
from pipeline.store.records import parse_record, record_bytes
from tests import small_store

OLD = 10**9.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_store.make(place(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody's with files that have names like a store's; all of them old."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("package.json", "00009-0123456789ab.parquet", "x.tmp.0123456789ab", "mine.txt"):
        (folder / name).write_text("mine")
        os.utime(folder / name, (OLD, OLD))
    return folder


@pytest.mark.parametrize("folder", ["records", "shards", "maps", "compact"])
def test_a_folder_that_is_a_link_leads_nowhere(root: Path, outside: Path, folder: str) -> None:
    shutil.rmtree(root / folder, ignore_errors=True)
    (root / folder).symlink_to(outside)
    if folder == "compact":
        asked: list[Callable[[], Any]] = [lambda: build(store.open(root))]
    else:
        asked = [
            lambda: store.gc(place(root), remove=True, older_than_s=0),
            lambda: store.fsck(place(root)),
            lambda: store.open(root).verify(),
        ]
    for ask in asked:
        with pytest.raises(InputError, match=rf"{root / folder} is a link"):
            ask()
    assert len(list(outside.iterdir())) == 4


@pytest.mark.parametrize("name", ["images.parquet", "store.json", "manifest.json", "tables.json"])
def test_a_file_that_is_a_link_is_not_read(root: Path, outside: Path, name: str) -> None:
    (root / name).unlink()
    (root / name).symlink_to(outside / "mine.txt")
    with pytest.raises(InputError, match="is a link, and a store has files of its own only"):
        _ask_all(root)


@pytest.mark.parametrize("name", ["images", "objects"])
def test_sql_follows_no_link_and_waits_for_no_pipe(root: Path, outside: Path, name: str) -> None:
    (root / f"{name}.parquet").rename(outside / "table")
    (root / f"{name}.parquet").symlink_to(outside / "table")
    with pytest.raises(InputError, match="is a link"):
        store.open(root).sql(f"SELECT * FROM {name}")
    with pytest.raises(InputError, match="is a link"):
        export(store.open(root), place(outside / "copy"))
    (root / f"{name}.parquet").unlink()
    os.mkfifo(root / f"{name}.parquet")
    with pytest.raises(InputError, match="it is missing"):
        store.open(root).sql(f"SELECT * FROM {name}")


def test_a_part_of_a_place_is_no_place_of_its_own(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf/class").symlink_to(outside)
    part = place(tmp_path / "shelf") / "class"
    assert part == place(tmp_path / "shelf/class")
    for touch in (part.listing, part.read, lambda name: part.create(name, b"x")):
        with pytest.raises(InputError, match="is a link"):
            touch("mine.txt")


def test_a_shard_that_is_a_link_is_missing(root: Path, tmp_path: Path) -> None:
    path = root / store.open(root).shards[0].name("shards")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert {fault.shard_id for fault in store.open(root).verify()} == {"00000"}
    with pytest.raises(InputError, match="is a link"):
        list(store.open(root).scan())


def test_the_store_itself_may_be_reached_by_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert store.open(tmp_path / "link").verify() == []


@pytest.mark.parametrize("name", ["images.parquet", "store.json", "manifest.json", "tables.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_waited_for(root: Path, name: str, make: Any) -> None:
    (root / name).unlink()
    make(root / name)
    with pytest.raises(InputError, match=r"no file|is missing|not finished|not a store"):
        _ask_all(root)


def _ask_all(root: Path) -> None:
    held = store.open(root)
    _ = held.made_from, held.images, held.objects
    held.sql("SELECT count(*) FROM images")
    assert held.verify() == []


JSON = ("manifest.json", "tables.json", "store.json")
DEEP = b"[" * 100_000


@pytest.mark.parametrize("data", [DEEP, b"", b"[]", b"5", b'"x"', b"null", b"{}", b"\xff"])
@pytest.mark.parametrize("name", [*JSON, "records/00000.json"])
def test_json_of_any_kind_is_refused_and_mended(root: Path, name: str, data: bytes) -> None:
    (root / name).write_bytes(data)
    try:
        faults = store.open(root).verify()
    except InputError:
        faults = [name]
    assert faults
    assert store.fsck(place(root))
    if (name, data) == ("store.json", b"{}"):  # of another making, as far as anybody can tell
        with pytest.raises(InputError, match="was made with layer = None"):
            small_store.make(place(root))
        return
    small_store.make(place(root))  # as the next run, which makes again what could not be mended
    store.gc(place(root), remove=True, older_than_s=0)
    assert store.open(root).verify() == []


@pytest.mark.parametrize(
    "change",
    [
        {"images": None}, {"images": [1]}, {"images": {"a": "x"}}, {"images": {"a": -1}},
        {"quarantined": None}, {"quarantined": {"a": 5}}, {"made_from": 5},
        {"shard_id": "../x"}, {"shard_id": "a\0b"}, {"shard_id": "x" * 200}, {"shard_id": ".."},
        {"files": {"shards": {"bytes": "x", "rows": 1, "sha256": "0" * 64}}},
        {"files": {"shards": {"bytes": 1, "rows": 1e30, "sha256": "0" * 64}}},
        {"files": {"shards": {"bytes": 1, "rows": 1, "sha256": "../x"}}},
        {"files": {"../x": {"bytes": 1, "rows": 1, "sha256": "0" * 64}}},
    ],
)  # fmt: skip
def test_records_of_other_types_are_none(root: Path, change: dict[str, Any]) -> None:
    whole = json.loads((root / "records/00000.json").read_bytes())
    assert parse_record(whole) is not None
    assert parse_record(whole | change) is None


@pytest.mark.parametrize("first", ["../outside.parquet", "/etc/passwd", "shards/../x", 5, []])
def test_a_manifest_names_files_of_its_store_only(root: Path, first: Any) -> None:
    manifest = root / "manifest.json"
    held = json.dumps(store.open(root).totals.first).encode()
    assert held in manifest.read_bytes()
    manifest.write_bytes(manifest.read_bytes().replace(held, json.dumps(first).encode()))
    with pytest.raises(InputError, match="is not finished"):
        store.open(root)


def rewrite(
    root: Path, change: Callable[[pa.Table], pa.Table], folder: str = "shards", **options: Any
) -> None:
    """Put other rows into the first shard, with records and manifest that agree."""
    shard_id = "00000"
    path = root / store.open(root).shards[0].name(folder)
    table = change(pq.read_table(path))
    path.unlink()
    pq.write_table(table, path, **{"compression": "NONE", "use_dictionary": False} | options)
    data = path.read_bytes()
    record = json.loads((root / f"records/{shard_id}.json").read_bytes())
    held = {"bytes": len(data), "rows": len(table), "sha256": sha256(data).hexdigest()}
    record["files"][folder] = held
    path.rename(path.with_name(f"{shard_id}-{held['sha256'][:12]}.parquet"))
    _recommit(root, record)


def _recommit(root: Path, *records: dict[str, Any]) -> None:
    for record in records:
        parsed = parse_record(record)
        assert parsed is not None
        (root / f"records/{parsed.shard_id}.json").write_bytes(record_bytes(parsed))
    (root / "manifest.json").unlink()
    store.finish(place(root), list(small_store.SHARDS))


def with_spec(table: pa.Table, **changes: Any) -> pa.Table:
    metadata = json.loads(table.schema.metadata[schema.METADATA_KEY]) | changes
    return table.replace_schema_metadata({schema.METADATA_KEY: json.dumps(metadata)})


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "int16"}, {"dtype": "O"}, {"dtype": ">f2"}, {"dtype": "f2,f2"}, {"dtype": 5},
        {"length": 50.0}, {"length": "50"}, {"length": -1}, {"length": 1 << 62}, {"layout": "x"},
        {"unknown": 1},
    ],
)  # fmt: skip
def test_vectors_of_other_kinds_are_refused(root: Path, changes: dict[str, Any]) -> None:
    rewrite(root, lambda table: with_spec(table, **changes))
    with pytest.raises(InputError, match=r"no readable vector column|holds vectors as"):
        list(store.open(root).scan())
    assert store.open(root).verify()


def test_rows_in_another_order_are_found(root: Path) -> None:
    rewrite(root, lambda table: table.take([1, 0, *range(2, len(table))]))
    (fault,) = store.open(root).verify()
    assert "in another order" in fault.problem


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("column", "folder"),
    [("vector", "shards"), ("map", "maps"), ("y_min", "shards"), ("factor_x", "maps")],
)
def test_numbers_that_are_not_finite_are_found(
    tmp_path: Path, column: str, folder: str, wrong: float
) -> None:
    root = tmp_path / "store"
    small_store.make(place(root), maps=folder == "maps")

    def spoiled(table: pa.Table) -> pa.Table:
        at, (*others, last) = table.column_names.index(column), table[column].to_pylist()
        if isinstance(last, bytes):
            numbers = np.frombuffer(last, np.float16).copy()
            numbers[17] = wrong
            last = numbers.tobytes()
        else:
            last = wrong
        field = table.schema.field(column)
        return table.set_column(at, field, pa.array([*others, last], field.type))

    rewrite(root, lambda table: table, folder, row_group_size=1)
    assert store.open(root).verify() == []
    rewrite(root, spoiled, folder, row_group_size=1)
    (fault,) = store.open(root).verify()
    assert re.search("not finite|was resized by", fault.problem)
    assert store.fsck(place(root))
    small_store.make(place(root), maps=folder == "maps")
    store.gc(place(root), remove=True, older_than_s=0)
    assert store.open(root).verify() == []


def test_vectors_of_a_shard_that_says_it_has_maps_are_looked_at(root: Path, tmp_path: Path) -> None:
    small_store.make(place(tmp_path / "other"), maps=True)
    shutil.copytree(tmp_path / "other/maps", root / "maps", dirs_exist_ok=True)
    records = [
        json.loads((folder / f"records/{shard_id}.json").read_bytes())
        for shard_id in small_store.SHARDS
        for folder in (root, tmp_path / "other")
    ]
    for mine, other in zip(records[::2], records[1::2], strict=True):
        mine["files"]["maps"] = other["files"]["maps"]
    _recommit(root, *records[::2])
    assert [fault.problem for fault in store.open(root).verify()] == [
        "has maps by its record, and vectors by its rows, or the other way round"
    ] * 2


NULLABLE = pa.field("map", pa.binary())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.drop_columns("map"), "has other columns than"),
        (
            lambda table: table.set_column(6, NULLABLE, pa.nulls(len(table), pa.binary())),
            "has other columns",
        ),
        (lambda table: _with_map(table, b"\0" * 421), "holds a map of 421 bytes where 6×7×5"),
        (lambda table: _with_map(table, b"\0" * 999_999), "unpacks a map to 1,000,"),
        (lambda table: _with_sides(table, 60_000, 60_000), "it is made to fill the memory"),
        (lambda table: _with_sides(table, 0, 7), "0×7×5 numbers were written"),
        (lambda table: pa.concat_tables([table, table]), "holds a map twice"),
    ],
)
def test_maps_that_are_none_are_found(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], told: str
) -> None:
    root = tmp_path / "store"
    small_store.make(place(root), maps=True)
    rewrite(root, change, "maps", row_group_size=1, compression="zstd")
    (fault,) = store.open(root).verify()
    assert told in fault.problem


def _with_map(table: pa.Table, data: bytes) -> pa.Table:
    field = table.schema.field("map")
    return table.set_column(6, field, pa.array([*table["map"].to_pylist()[:-1], data], field.type))


def _with_sides(table: pa.Table, rows: int, columns: int) -> pa.Table:
    for at, side in ((4, rows), (5, columns)):
        sides = pa.array([side] * len(table), pa.int32())
        table = table.set_column(at, table.schema.field(at), sides)
    return table


def test_columns_that_are_not_a_shard_s(root: Path) -> None:
    wide = pa.field("window_id", pa.int64(), nullable=False)
    for change in (
        lambda table: table.drop_columns("scale_px"),
        lambda table: table.append_column("more", pa.array([0] * len(table))),
        lambda table: table.set_column(1, wide, table["window_id"].cast(pa.int64())),
    ):
        rewrite(root, change)
        with pytest.raises(InputError, match=r"has .* where a shard has|has a column more"):
            list(store.open(root).scan())
        shutil.rmtree(root)
        small_store.make(place(root))


def test_a_small_shard_of_very_many_rows(root: Path) -> None:
    def many(table: pa.Table) -> pa.Table:
        return table.slice(0, 1).take(np.zeros(300_000, np.int64))

    rewrite(root, many, compression="zstd", use_dictionary=True)
    with pytest.raises(InputError, match=r"300,000 rows in .* bytes: it is made to fill"):
        list(store.open(root).scan())


@pytest.mark.parametrize(
    "query", ["(" * 60 + "1" + ")" * 60, "SELECT " + "x" * 1_000_000, "\ud800"]
)
def test_queries_that_would_keep_the_parser_for_minutes(root: Path, query: str) -> None:
    held = store.open(root)
    with pytest.raises(InputError, match=r"are the most|no text"):
        held.sql(query)
    with pytest.raises(InputError, match=r"are the most|no text"):
        list(held.scan(where=query))


@pytest.mark.parametrize("uri", ["s3://KEY:SECRET@bucket/x", "gs://user@bucket"])
def test_an_address_with_a_password_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(InputError, match="ends up in logs") as refused:
        place(uri)
    assert "SECRET" not in str(refused.value)
