"""The training rows of one shard: each pass adds vectors, and says who learns from what by now.

A cache is a list of folders, one a pass, oldest first. Each folder holds, by shard:

| file | column | type | |
|---|---|---|---|
| vectors | row | int32 | place of the window in its shard |
| | vector | as in the store | of rows that no pass before had |
| members | row | int32 | sorted; every row whose vector is cached by now |
| | part | int32 | which folder of the list holds its vector |
| | nonzeros | int32 | numbers of its vector that are not zero |
| | positive, negative | binary | one bit a class, most significant first |

No vector is written twice, and no file is changed: a pass that was killed runs again and writes
the same bytes.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from pipeline.learning.sampling import windows_of
from pipeline.store.blocks import Block
from pipeline.store.files import roll_back, written_together
from pipeline.store.schema import METADATA_KEY, VectorSpec, vectors

ROW_GROUP_BYTES = 32_000_000
# Vectors as they are; a dictionary or statistics on them would cost more than writing them.
_OPTIONS = {"compression": "NONE", "use_dictionary": False, "write_statistics": ["row"]}


@dataclass(frozen=True)
class Members:
    """The cached rows of a shard after a pass, by row."""

    row: Int[np.ndarray, " rows"]
    part: Int[np.ndarray, " rows"]
    """Which of the cache's folders holds the vector."""
    nonzeros: Int[np.ndarray, " rows"]
    positive: Bool[np.ndarray, "rows classes"]
    negative: Bool[np.ndarray, "rows classes"]
    """A row that no class learns from any longer stays: it may be gained again."""


class CacheWriter:
    """One pass over one shard: `add` rows in order, then `commit`; or nothing is left behind."""

    def __init__(self, caches: Sequence[Path], shard_id: str, spec: VectorSpec, rows: int) -> None:
        """Go on with a cache.

        Args:
            caches: its folders; this pass writes into the last one.
            shard_id: of the shard.
            spec: of its vectors.
            rows: windows of the shard.
        """
        self._spec, self._schema, self._part = spec, _schema(spec), len(caches) - 1
        self._paths = vectors_path(caches[-1], shard_id), members_path(caches[-1], shard_id)
        # By row of the shard; -1 where no vector is cached.
        self._part_of = np.full(rows, -1, np.int32)
        self._nonzeros = np.zeros(rows, np.int32)
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> "CacheWriter":
        self._stack = ExitStack()
        self._aside = self._stack.enter_context(written_together(self._paths))
        writer = pq.ParquetWriter(self._aside[0], self._schema, **_OPTIONS)
        self._parquet = self._stack.enter_context(writer)
        return self

    def keep(self, members: Members) -> None:
        """Take over what the passes before have cached."""
        self._part_of[members.row], self._nonzeros[members.row] = members.part, members.nonzeros

    def add(
        self,
        first: int,
        used: Bool[np.ndarray, "windows classes"],
        held: Block,
    ) -> None:
        """Write the vectors that some class uses and no pass has cached before.

        Args:
            first: row of the first window.
            used: which class learns from which window.
            held: the windows' vectors.
        """
        windows = windows_of(used)
        new = windows[self._part_of[first + windows] < 0]
        if not len(new):
            return
        gained, rows = held[new].take(), (first + new).astype(np.int32)
        self._part_of[rows] = self._part
        self._nonzeros[rows] = [np.count_nonzero(each) for each in _bits(gained)]
        columns = [pa.array(rows), self._spec.to_arrow(gained)]
        self._waiting.append(pa.table(columns, schema=self._schema))
        if sum(table.nbytes for table in self._waiting) >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._parquet.write_table(table, row_group_size=len(table))
            self._waiting = []

    def commit(
        self,
        positive: Bool[np.ndarray, "rows classes"],
        negative: Bool[np.ndarray, "rows classes"],
    ) -> None:
        """Finish the vectors, and the table that makes them known."""
        self._flush()
        self._parquet.close()
        row = np.flatnonzero(self._part_of >= 0).astype(np.int32)
        columns = {
            "row": row,
            "part": self._part_of[row],
            "nonzeros": self._nonzeros[row],
            "positive": _pack(positive[row]),
            "negative": _pack(negative[row]),
        }
        pq.write_table(pa.table(columns), self._aside[1])
        self._stack.close()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        roll_back(self._stack, error)


def read_members(folder: Path, shard_id: str, classes: int) -> Members:
    """Return a shard's cached rows after the pass that wrote `folder`."""
    table = pq.ParquetFile(members_path(folder, shard_id)).read()
    row, part, nonzeros = (table[name].to_numpy() for name in ("row", "part", "nonzeros"))
    positive, negative = (_unpack(table[name], classes) for name in ("positive", "negative"))
    return Members(row, part, nonzeros, positive, negative)


def read_vectors(
    caches: Sequence[Path],
    shard_id: str,
    row: Int[np.ndarray, " rows"],
    part: Int[np.ndarray, " rows"],
    out: Float[np.ndarray, "rows dim"],
) -> None:
    """Read cached vectors of a shard into `out`; one row group is held beside it.

    Args:
        caches: the cache's folders, oldest first.
        shard_id: of the shard.
        row: which rows are wanted, in order.
        part: the folder that holds each one's vector.
        out: takes them.
    """
    for number in np.unique(part).tolist():
        places = np.flatnonzero(part == number)
        wanted = row[places]
        with pq.ParquetFile(vectors_path(caches[number], shard_id), memory_map=True) as file:
            for group in range(file.num_row_groups):
                held = file.read_row_group(group, columns=["row"])["row"].to_numpy()
                here = np.flatnonzero((wanted >= held[0]) & (wanted <= held[-1]))
                if len(here):
                    read = vectors(file.read_row_group(group, columns=["vector"]))
                    out[places[here]] = read[np.searchsorted(held, wanted[here])]


def vectors_path(folder: Path, shard_id: str) -> Path:
    """Return where a pass puts the vectors it adds of a shard."""
    return folder / f"{shard_id}.vectors.parquet"


def members_path(folder: Path, shard_id: str) -> Path:
    """Return where a pass says who learns from what in a shard."""
    return folder / f"{shard_id}.members.parquet"


def _schema(spec: VectorSpec) -> pa.Schema:
    row = pa.field("row", pa.int32(), nullable=False)
    vector = pa.field("vector", spec.arrow_type, nullable=False)
    return pa.schema([row, vector], metadata={METADATA_KEY: json.dumps(asdict(spec))})


def _bits(held: np.ndarray) -> np.ndarray:
    """Return the numbers as integers, which are compared with zero ten times faster than halves."""
    return held.view(f"u{held.dtype.itemsize}") != 0


def _pack(flags: Bool[np.ndarray, "rows classes"]) -> pa.Array:
    packed = np.ascontiguousarray(np.packbits(flags, axis=1))
    bits = pa.binary(packed.shape[1])
    return pa.Array.from_buffers(bits, len(packed), [None, pa.py_buffer(packed)])


def _unpack(column: pa.ChunkedArray, classes: int) -> Bool[np.ndarray, "rows classes"]:
    width = (classes + 7) // 8
    flat = b"".join(column.to_pylist())
    packed = np.frombuffer(flat, dtype=np.uint8).reshape(-1, width)
    return np.unpackbits(packed, axis=1, count=classes).astype(bool)
