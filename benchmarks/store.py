"""Writing and reading a shard of window vectors, against copying the same bytes in memory.

The peer is numpy's `.copy()` of the vectors to a fresh buffer; beside it, without a target, stands
`np.copyto` into memory that exists already, which is spared the making of fresh pages.
Writing is all of it: Parquet, the sha256 of the file, bringing it to the disk, the commit record.
Reading is `scan_shard` over the page cache. What bounds writing is told beside it: sha256 alone on
one core, a plain file written and brought to the disk, and the same shard written where there is no
disk (a tmpfs).
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from measure import Row, main, median_s

from pipeline import store
from pipeline.store.place import place
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, VectorSpec, vectors

WINDOWS = 2000  # an image
GROUP_BYTES = 32_000_000  # features.row_group_bytes
TMPFS = Path("/dev/shm")


def random_vectors(dim: int, size_bytes: int) -> np.ndarray:
    """Whole images of float16 vectors, about so many bytes."""
    images = max(size_bytes // (WINDOWS * dim * 2), 2)
    numbers = np.random.default_rng(0).integers(0, 31_000, (images * WINDOWS, dim), np.uint16)
    return numbers.view(np.float16)  # positive and finite


def image_tables(held: np.ndarray, spec: VectorSpec) -> list[pa.Table]:
    """The rows of each image, as an extractor hands them to the writer."""
    word = pa.dictionary(pa.int32(), pa.string())
    boxes = np.random.default_rng(0).integers(0, 500, (4, WINDOWS)).astype(np.float32)
    tables = []
    for number, start in enumerate(range(0, len(held), WINDOWS)):
        columns = {
            "image_id": pa.array([f"{number:06d}"] * WINDOWS),
            "window_id": pa.array(np.arange(WINDOWS, dtype=np.int32)),
            **dict(zip(BOX_COLUMNS, map(pa.array, boxes), strict=True)),
            "scale_px": pa.array(np.full(WINDOWS, 688, np.int16)),
            "source": pa.array(["selective_search"] * WINDOWS).cast(word),
            "split": pa.array(["train"] * WINDOWS).cast(word),
            "vector": spec.to_arrow(held[start : start + WINDOWS]),
        }
        tables.append(pa.table(columns, schema=spec.schema()))
    return tables


def write(root: Path, tables: list[pa.Table], spec: VectorSpec) -> None:
    """Write and commit one shard, in place of the one before."""
    there = place(root)
    there.remove("records/shard.json")
    with store.ShardWriter(there, "shard", spec.schema(), GROUP_BYTES) as writer:
        for table in tables:
            writer.write(table)
        images = {table["image_id"][0].as_py(): len(table) for table in tables}
        writer.commit("benchmark", images, {}, "")


def read(root: Path) -> None:
    """Read all vectors, a row group at a time."""
    for table in scan_shard(store.Store(place(root)), "shard"):
        vectors(table)


def write_plainly(path: Path, held: np.ndarray) -> None:
    """Write the bytes and wait until the disk has them."""
    data = memoryview(held).cast("B")
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), 1 << 22):
            file.write(data[start : start + (1 << 22)])
        os.fsync(file.fileno())


def copy_into_s(held: np.ndarray, runs: int) -> float:
    """Seconds of a copy into memory that exists; it is given back before anything else is timed."""
    room = np.empty_like(held)
    return median_s(partial(np.copyto, room, held), runs)


def run(quick: bool) -> list[Row]:
    """Both lengths of vectors, a shard of the usual size each."""
    torch.set_num_threads(1)
    size_bytes, runs = (2_000_000, 1) if quick else (256_000_000, 7)
    rows = []
    for dim in (4096, 12_800):
        held = random_vectors(dim, size_bytes)
        rows += _rows(held, VectorSpec(dim), f"{held.nbytes / 1e6:.0f} MB of {dim:,}-d", runs)
    return rows


def _rows(held: np.ndarray, spec: VectorSpec, what: str, runs: int) -> list[Row]:
    tables = image_tables(held, spec)
    copy_s, into_s = median_s(held.copy, runs), copy_into_s(held, runs)

    def pair(
        name: str, work: Callable[[], object], target: float | None, note: str = ""
    ) -> list[Row]:
        name, spent_s = f"{name}, {what}", median_s(work, runs)
        return [
            Row(name, spent_s, "memory copy", copy_s, target, note),
            Row(name, spent_s, "copy into memory that exists", into_s, None),
        ]

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = pair("write a shard", partial(write, root, tables, spec), 0.25)
        parts = [vectors(table) for table in scan_shard(store.Store(place(root)), "shard")]
        assert np.array_equal(np.concatenate(parts).view(np.uint16), held.view(np.uint16))
        parts.clear()
        note = "from the page cache; a disk of N MB/s reads no faster than N"
        rows += pair("read a shard", partial(read, root), 0.6, note)
        rows += pair("sha256 alone", lambda: hashlib.sha256(held), None)
        plain = partial(write_plainly, root / "plain", held)
        rows += pair("plain file, brought to the disk", plain, None)
    if os.access(TMPFS, os.W_OK):
        with tempfile.TemporaryDirectory(dir=TMPFS) as folder:
            work = partial(write, Path(folder), tables, spec)
            rows += pair("write a shard where there is no disk", work, None)
    return rows


if __name__ == "__main__":
    main(run)
