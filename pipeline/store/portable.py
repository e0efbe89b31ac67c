"""A copy of a store that any reader of Parquet opens, with no code of ours.

| file | |
|---|---|
| windows/*.parquet | a file for each shard; `vector` is a list of numbers, also of maps |
| images.parquet, objects.parquet | the labels as they are |
| README.txt | what the columns are; written last |
| export.json | what it was made of, by which an interrupted export is gone on with |

Vectors are packed. A list's items are slow to read in any case, and neighbouring windows share
most of their bins: of SqueezeNet's vectors on photographs 8% of the bytes are left.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.store.entries import ShardEntry
from pipeline.store.place import Place
from pipeline.store.reader import Store
from pipeline.store.records import SHARDS, from_json, to_json
from pipeline.store.scan import scan_shard
from pipeline.store.schema import SCALARS, vectors

Dtype = Literal["float32", "float16"]
WINDOWS, SETTINGS, README = "windows", "export.json", "README.txt"
LABELS = ("images.parquet", "objects.parquet")
CODEC, LEVEL = "zstd", 1  # as quick to write and to read as no codec, and smaller than Snappy
README_TEXT = """\
Features of image windows: {rows:,} rows, vectors of {length:,} numbers ({dtype}).

windows/*.parquet, a row for each window, sorted by image_id and window_id:
  image_id                   string
  window_id                  int32, counted from 0 in each image
  x_min y_min x_max y_max    float32, pixels of the image as it is stored, 0-based, half-open
  scale_px                   int16, shorter side of the resized image that the vector is of
  source                     string: selective_search, grid, file, or ground_truth for objects
  split                      string, name of the image set
  vector                     list of {length:,} {dtype}, no nulls

images.parquet, a row for each image that went in:
  image_id, file (from the folder of the store), width, height, bytes, modified_ns, split

objects.parquet, a row for each labelled object:
  image_id, object_id, class, x_min, y_min, x_max, y_max, difficult, split

What the vectors are of:
{features}

In DuckDB:  SELECT image_id, vector FROM 'windows/*.parquet' WHERE source = 'ground_truth'
In polars:  polars.scan_parquet("windows/*.parquet")
In pandas:  pandas.read_parquet("windows")
"""


@dataclass(frozen=True)
class Exported:
    """What an export holds now, and what of it was made by this call."""

    files: int
    rows: int
    bytes: int
    made: int
    """Files of windows that were not there before."""


def export(
    store: Store,
    to: Place,
    dtype: Dtype = "float32",
    tell: Callable[[int], object] = lambda n: None,
) -> Exported:
    """Copy a store, a row group at a time; whole files of an earlier attempt are kept.

    Two at once in one folder stop each other.

    Args:
        store: of vectors or of maps.
        to: a folder of its own.
        dtype: of the numbers. DuckDB, pyarrow, pandas and polars know both, other readers may
            know no halves.
        tell: how many files of windows are there, each time there is one more.

    Raises:
        InputError: the folder holds something else, or an export of another store.
    """
    names = [_name(entry) for entry in store.shards]
    _claim(to, store, names, dtype)
    there = to.listing(WINDOWS)
    for left in [name for name in there if ".tmp." in name]:  # by who was killed
        to.remove(f"{WINDOWS}/{left}")
    made = 0
    for number, (entry, name) in enumerate(zip(store.shards, names, strict=True), start=1):
        if name not in there:
            _write_shard(store, entry, to, f"{WINDOWS}/{name}", dtype)
            made += 1
        tell(number)
    for name in LABELS:
        _copy(store.root, to, name)
    to.replace(README, _readme(store, dtype).encode())
    listed = [*to.listing(WINDOWS).values(), *(each for each in map(to.look, LABELS) if each)]
    return Exported(len(names), len(store), sum(each.bytes for each in listed), made)


def _name(entry: ShardEntry) -> str:
    return entry.name(SHARDS).removeprefix(f"{SHARDS}/")


def _claim(to: Place, store: Store, names: list[str], dtype: Dtype) -> None:
    """Make a folder the export's own, or find that it is."""
    # Names of shards end in digits of their content: other vectors have other names.
    made_of = {"dtype": dtype, "shards": sha256("\n".join(names).encode()).hexdigest()}
    if not to.listing("") and not to.listing(WINDOWS):
        to.create(SETTINGS, to_json(made_of))
    held = from_json(to.read(SETTINGS))
    if not isinstance(held, dict):
        raise InputError(f"{to} is not empty, and no export is in it: choose another folder")
    if held.get("dtype") != dtype:
        raise InputError(
            f"{to} holds an export with numbers of {held.get('dtype')}, not {dtype}: choose "
            "another folder, or remove it"
        )
    if held != made_of:
        raise InputError(
            f"{to} holds an export of other vectors than {store.root} has now: choose another "
            "folder, or remove it"
        )


def _schema(dtype: Dtype) -> pa.Schema:
    item = pa.field("element", pa.from_numpy_dtype(np.dtype(dtype)), nullable=False)
    plain = [
        pa.field(each.name, pa.string(), nullable=False)
        if pa.types.is_dictionary(each.type)
        else each
        for each in SCALARS
    ]
    return pa.schema([*plain, pa.field("vector", pa.list_(item), nullable=False)])


def _write_shard(store: Store, entry: ShardEntry, to: Place, name: str, dtype: Dtype) -> None:
    schema = _schema(dtype)
    scalars: Any = [each.name for each in SCALARS]
    words: Any = [each.name for each in schema if pa.types.is_string(each.type)]
    with to.spool(name) as aside:
        with pq.ParquetWriter(
            aside,
            schema,
            compression=CODEC,
            compression_level=LEVEL,
            use_dictionary=words,
            write_statistics=scalars,
        ) as writer:
            for rows in scan_shard(store, entry.shard_id):
                writer.write_table(_plain(rows, schema, dtype), row_group_size=max(len(rows), 1))
        to.bring(aside, name)


def _plain(rows: pa.Table, schema: pa.Schema, dtype: Dtype) -> pa.Table:
    """Return rows with words as words, and vectors as lists."""
    held = vectors(rows)
    if held.dtype != dtype:
        import torch  # takes two seconds to load, and hardly anybody's store needs it

        # torch narrows and widens half floats many times faster than numpy does.
        held = torch.from_numpy(held.copy()).to(getattr(torch, dtype)).numpy()
    items = pa.Array.from_buffers(
        schema.field("vector").type.value_type, held.size, [None, pa.py_buffer(held)]
    )
    ends = pa.array(np.arange(len(held) + 1, dtype=np.int32) * held.shape[1])
    column = pa.ListArray.from_arrays(ends, items, type=schema.field("vector").type)
    scalars = [rows[each.name].cast(schema.field(each.name).type) for each in SCALARS]
    return pa.table([*scalars, column], schema=schema)


def _copy(root: Place, to: Place, name: str) -> None:
    with _whole(root, name) as file, to.spool(name) as aside:
        with aside.open("wb") as out:
            shutil.copyfileobj(file, out, 1 << 24)
        to.bring(aside, name)


@contextmanager
def _whole(root: Place, name: str) -> Iterator[pa.NativeFile]:
    try:
        with root.open(name) as file:
            yield file
    except FileNotFoundError:
        raise InputError(
            f"{root}/{name} is missing: run the recipe again, which writes it"
        ) from None


def _readme(store: Store, dtype: Dtype) -> str:
    features = json.dumps(store.made_from.get("features", {}), indent=1)
    return README_TEXT.format(
        rows=len(store), length=store.spec.length, dtype=dtype, features=features
    )
