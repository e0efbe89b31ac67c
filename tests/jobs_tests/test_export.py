"""`spp export --portable`: what it writes opens elsewhere, with no code of ours."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.errors import InputError
from pipeline.store import Vectors, portable
from pipeline.store.place import Place, place
from tests import small_store
from tests.s3 import BUCKET

Run = Callable[..., Any]


@pytest.fixture
def held(tmp_path: Path) -> store.Store:
    """A store of twelve windows in two shards."""
    small_store.make(place(tmp_path / "store"))
    return store.open(tmp_path / "store")


def in_duckdb(folder: Path, name: str) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        return connection.sql(f"FROM '{folder}/{name}'").to_arrow_table().to_pylist()


def in_pyarrow(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / name.removesuffix("/*.parquet")
    return pyarrow.dataset.dataset(path, format="parquet").to_table().to_pylist()


def in_pandas(folder: Path, name: str) -> list[dict[str, Any]]:
    return pd.read_parquet(folder / name.removesuffix("/*.parquet")).to_dict("records")


def in_polars(folder: Path, name: str) -> list[dict[str, Any]]:
    return pl.scan_parquet(folder / name).collect().to_dicts()


@pytest.mark.parametrize("read", [in_duckdb, in_pyarrow, in_pandas, in_polars])
@pytest.mark.parametrize(("kind", "dtype"), [("windows", "float32"), ("maps", "float16")])
def test_what_is_exported_opens_elsewhere(
    read: Callable[[Path, str], list[dict[str, Any]]],
    kind: str,
    dtype: str,
    spp: Run,
    tmp_path: Path,
) -> None:
    root, out = tmp_path / "store", tmp_path / "out"
    small_store.make(place(root), kind == "maps")
    said = spp("export", root, out, "--portable", "--dtype", dtype, "--json")
    sizes = sum(path.stat().st_size for path in out.rglob("*.parquet"))
    assert json.loads(said.out) == {"files": 2, "rows": 12, "bytes": sizes, "made": 2}
    rows = sorted(
        read(out, "windows/*.parquet"), key=lambda row: (row["image_id"], row["window_id"])
    )
    opened = store.open(root)
    vectors = Vectors(opened).take(np.arange(12))
    assert np.array_equal(np.array([list(row["vector"]) for row in rows]), vectors)
    scanned = [row for table in opened.scan() for row in table.to_pylist()]
    for row, known in zip(rows, scanned, strict=True):
        assert {**row, "vector": None} == {**known, "vector": None}
    assert [row["image_id"] for row in read(out, "images.parquet")] == ["a", "b", "c", "d"]
    assert {row["class"] for row in read(out, "objects.parquet")} == {"cat"}


def test_vectors_are_lists_without_nulls_and_rows_groups_as_they_were(
    held: store.Store, tmp_path: Path
) -> None:
    portable.export(held, place(tmp_path / "out"))
    first = sorted((tmp_path / "out" / "windows").iterdir())[0]
    with pq.ParquetFile(first) as file:
        assert str(file.schema_arrow.field("vector").type) == "list<element: float not null>"
        assert not any(field.nullable for field in file.schema_arrow)
        assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [3, 4]
        assert file.schema_arrow.metadata is None
    text = (tmp_path / "out" / "README.txt").read_text("utf-8")
    assert "12 rows, vectors of 50 numbers (float32)" in text
    assert all(name in text for name in held.schema.names)


def test_an_export_goes_on_where_it_was_stopped(
    held: store.Store, spp: Run, tmp_path: Path
) -> None:
    def stop(_: int) -> None:
        raise InterruptedError

    out = tmp_path / "out"
    with pytest.raises(InterruptedError):
        portable.export(held, place(out), tell=stop)
    (first,) = (out / "windows").iterdir()
    assert not (out / "README.txt").exists()
    written = first.stat().st_mtime_ns
    (out / "windows" / "00001.parquet.tmp.0123456789ab").write_bytes(b"cut off")
    said = spp("export", held.root, out)
    size = sum(path.stat().st_size for path in out.rglob("*.parquet"))
    assert said.out == f"{out}: 12 rows in 2 files, 1 of them there already, {size:,} bytes\n"
    assert first.stat().st_mtime_ns == written
    assert [path.suffix for path in (out / "windows").iterdir()] == [".parquet"] * 2


def test_a_folder_of_something_else_is_left_alone(
    held: store.Store, spp: Run, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.*")}
    for folder in (tmp_path / "store", tmp_path / "notes"):
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine")
        said = spp("export", held.root, folder)
        assert (said.code, said.out) == (1, "")
        assert "is not empty, and no export is in it: choose another folder" in said.err
        (folder / "notes.txt").unlink()
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.*")} == before


def test_an_export_of_another_store_is_not_mixed_in(held: store.Store, tmp_path: Path) -> None:
    out, root = place(tmp_path / "out"), place(tmp_path / "store")
    portable.export(held, out)
    with pytest.raises(InputError, match="with numbers of float32, not float16: choose"):
        portable.export(held, out, "float16")
    root.remove("records/00001.json")
    small_store.write_shard(root, "00001", maps=False, flavour=1)
    store.finish(root, list(small_store.SHARDS))
    with pytest.raises(InputError, match="an export of other vectors than"):
        portable.export(store.open(root), out)


def test_from_one_object_store_to_another(s3_server: Any) -> None:
    del s3_server
    root, out = (place(f"s3://{BUCKET}/{uuid.uuid4().hex}") for _ in range(2))
    assert isinstance(root, Place)
    small_store.make(root)
    done = portable.export(store.open(root), out)
    assert (done.files, done.rows, done.made) == (2, 12, 2)
    assert portable.export(store.open(root), out).made == 0
    assert list(out.listing("")) == [
        "README.txt",
        "export.json",
        "images.parquet",
        "objects.parquet",
    ]
