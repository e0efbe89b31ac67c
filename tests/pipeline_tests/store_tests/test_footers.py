"""Parquet files of others: no code runs because of what their footers say."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.datasets.parquet import parquet_classes
from pipeline.errors import InputError
from pipeline.store import footers
from pipeline.store.labels import read_labels
from pipeline.store.place import place
from pipeline.windows.imported import read_parquet
from tests import small_store


class Foreign(pa.ExtensionType):
    """A registered type, whose code runs when a file that has it is opened."""

    ran: int = 0

    def __init__(self) -> None:
        super().__init__(pa.string(), "others.type")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"what a hostile file says"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, said: bytes) -> "Foreign":
        del storage, said
        cls.ran += 1
        return cls()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Writes a table with one such column into a file, beside other columns."""
    pa.register_extension_type(Foreign())

    def write(path: Path | None = None, name: str = "image_id", **others: Any) -> Path:
        ids = pa.ExtensionArray.from_storage(Foreign(), pa.array(["a", "b"]))
        file = path or tmp_path / "foreign.parquet"
        pq.write_table(pa.table({name: ids, **others}), file)
        Foreign.ran = 0
        return file

    yield write
    pa.unregister_extension_type("others.type")


def test_a_registered_type_would_run_its_code(foreign: Callable[..., Path]) -> None:
    file = foreign()
    pq.ParquetFile(file).close()
    assert Foreign.ran  # else these tests would show nothing


@pytest.mark.parametrize("length", range(1, 8))
def test_wherever_it_stands_in_the_footer(foreign: Callable[..., Path], length: int) -> None:
    file = foreign(name="n" * length)
    with pytest.raises(InputError, match="Arrow extension type"):
        footers.require_plain(file)
    assert not Foreign.ran


def test_every_spelling_in_base64_is_known() -> None:
    for before in range(9):
        for after in range(4):
            encoded = b64encode(b"x" * before + b"ARROW:extension:name" + b"y" * after)
            assert any(needle in encoded for needle in footers._NEEDLES)


def test_windows_and_images_with_foreign_types_are_refused(
    foreign: Callable[..., Path], tmp_path: Path
) -> None:
    corners = {name: np.zeros(2, np.float32) for name in ("x_min", "y_min", "x_max", "y_max")}
    file = foreign(**corners)
    for path in (file, file.parent):
        with pytest.raises(InputError, match=r"foreign\.parquet is not .* extension type"):
            read_parquet(path)
    foreign(tmp_path / "train.parquet", "label", image=[b"", b""])
    with pytest.raises(InputError, match=r"train\.parquet is not .* extension type"):
        parquet_classes(tmp_path, "train", None)
    assert not Foreign.ran


def test_a_store_with_foreign_types_is_refused(
    foreign: Callable[..., Path], tmp_path: Path
) -> None:
    root = place(tmp_path / "store")
    small_store.make(root)
    name = store.open(root).shards[0].name("shards")
    foreign(Path(f"{root}/{name}"))
    foreign(Path(f"{root}/images.parquet"))
    for ask in (lambda: list(store.open(root).scan()), lambda: read_labels(root, "images.parquet")):
        with pytest.raises(InputError, match=r"cannot be read \(a column has an Arrow extension"):
            ask()
    assert store.open(root).verify()
    assert not Foreign.ran


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: b"", "does not end as Parquet"),
        (lambda data: b"PAR1", "does not end as Parquet"),
        (lambda data: data[:-1], "does not end as Parquet"),
        (lambda data: data[:-4] + b"PARE", "does not end as Parquet"),  # encrypted
        (lambda data: data[:-8] + b"\xff\xff\xff\xff" + data[-4:], "a footer of 4,294,967,303"),
        (lambda data: data[:-9] + b"\xff" + data[-8:], "is not Parquet that can be read"),
        (lambda data: data[:-8] + b"\x01\0\0\0" + data[-4:], "is not Parquet that can be read"),
    ],
)
def test_damaged_footers(tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), file)
    assert footers.require_plain(file).num_rows == 2
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=says):
        footers.require_plain(file)


def test_a_footer_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    table = pa.table({f"column {k}": [k] for k in range(900)})
    pq.write_table(table, file)
    assert int.from_bytes(file.read_bytes()[-8:-4], "little") > footers.TAIL_BYTES
    assert footers.require_plain(file).num_columns == 900


def test_a_small_file_of_millions_of_windows(tmp_path: Path) -> None:
    count = 3_000_000
    corners = {name: pa.repeat(pa.scalar(1, pa.float32()), count) for name in ("x_min", "y_min")}
    corners |= {name: pa.repeat(pa.scalar(9, pa.float32()), count) for name in ("x_max", "y_max")}
    file = tmp_path / "windows.parquet"
    pq.write_table(pa.table({"image_id": pa.repeat("a", count), **corners}), file)
    assert file.stat().st_size < count / 50
    with pytest.raises(InputError, match=r"more than 100,000 windows of image a"):
        read_parquet(file, ["a"])
