"""What a query can do with vectors: `vec`, `dot`, `cosine`, `score`, and `iou` of boxes.

In a query a vector is a handle, a struct of one number that says which row it is of. So DuckDB
filters, joins and sorts rows without their vectors, and the functions here read those of the rows
that are left, where they lie (see `rows`). A vector that is bound as a parameter is a handle,
too, with a negative number.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, wraps
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType
from jaxtyping import Bool, Float, Float32, Int

from pipeline.errors import InputError, SppError
from pipeline.store.blocks import Block, Query, block_of, cosines, query
from pipeline.store.class_scores import ClassScores, LinearClassifiers
from pipeline.store.iou_macro import IOU
from pipeline.store.rows import Vectors
from pipeline.store.schema import VectorSpec

FIELD = "vector_row"
HANDLE = pa.struct([(FIELD, pa.int64())])
SQL_HANDLE = f"STRUCT({FIELD} BIGINT)"
"""A struct that nobody else would make: names that are given to types are lost in results."""
SHARD_BITS = 32
"""A handle is the shard's place in the manifest, and below that the row in the shard."""
HANDLE_OF = f"{{'{FIELD}': file_index::BIGINT << {SHARD_BITS} | file_row_number}}"
"""In a query over the shards in their order."""
HANDLE_NUMBER = f"vector.{FIELD}"
FOREIGN = "a vector of the query is not of this store: take the column vector"
PREPARED = 256  # vectors to compare with, held ready: 30 KB each
KEPT_BYTES = 1 << 27  # of vectors, for each thread of DuckDB's


class VectorFunctions:
    """The functions of one query. DuckDB calls them from several threads, some 2,048 rows a call.

    Args:
        vectors: of the store.
        classifiers: that fit it; of two that have a class, the last one is meant.
    """

    def __init__(self, vectors: Vectors, classifiers: Sequence[LinearClassifiers] = ()) -> None:
        self._vectors, self._bound = vectors, list[Float[np.ndarray, " dim"]]()
        self._compared = lru_cache(PREPARED)(self._prepare)
        self._scores = ClassScores(classifiers, self._parts)
        # By thread. Not threading.local: DuckDB's threads are new ones to Python at each call, and
        # what dies with one of them takes the interpreter along.
        self._last: dict[int, tuple[np.ndarray, list[tuple[np.ndarray, Block]]]] = {}
        self.failed: SppError | None = None
        """What went wrong, for DuckDB would only tell its text among its own."""

    @property
    def length(self) -> int:
        """Numbers in a vector."""
        return self._vectors.spec.length

    def close(self) -> None:
        """Let go of the vectors: no function is called any more.

        What refers to this object from inside of it would keep their files open, hundreds of them,
        until Python looks for such circles, which may be many queries later.
        """
        del self._vectors, self._compared, self._scores
        self._last.clear()
        self.failed = None  # with the frames that it was raised in

    def bind(self, value: Any) -> Any:
        """Return a query's parameter as DuckDB takes it: of an array its handle.

        Raises:
            InputError: the array is no vector of this store's length, or not finite.
        """
        if not isinstance(value, np.ndarray):
            return value
        if value.shape != (self.length,):
            raise InputError(
                f"a parameter of the query is an array of shape {list(value.shape)}, and vectors "
                f"of this store have {self.length:,} numbers: bind one such vector, or a list"
            )
        self._bound.append(query(value).values)
        return {FIELD: -len(self._bound)}

    def register(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the functions known to a connection."""
        vector = f"FLOAT[{self.length}]"
        for name, function, takes, gives in (
            ("vec", self.widened, [SQL_HANDLE], vector),
            ("dot", self._dot, [SQL_HANDLE, SQL_HANDLE], "FLOAT"),
            ("cosine", self._cosine, [SQL_HANDLE, SQL_HANDLE], "FLOAT"),
            ("score", self._score, ["VARCHAR", SQL_HANDLE], "FLOAT"),
        ):
            connection.create_function(
                name,
                self._guarded(function),
                list(map(duckdb.sqltype, takes)),
                duckdb.sqltype(gives),
                type=PythonUDFType.ARROW,
                # By default DuckDB looks for NULL itself, and not inside of structs.
                null_handling=FunctionNullHandling.SPECIAL,
            )
        connection.execute(IOU)

    def _guarded(self, function: Callable[..., pa.Array]) -> Callable[..., pa.Array]:
        """Keep an error of ours as it is."""

        @wraps(function)  # DuckDB looks how many arguments it takes
        def call(*columns: pa.ChunkedArray) -> pa.Array:
            try:
                return function(*(column.combine_chunks() for column in columns))
            except SppError as error:
                self.failed = error
                raise

        return call

    def widened(self, handles: pa.Array) -> pa.Array:
        """Return the vectors of some handles as lists of float32; of NULL, NULL."""
        numbers, valid = _numbers(handles)
        out = np.zeros((len(handles), self.length), np.float32)
        wanted = np.flatnonzero(valid)
        import torch  # takes two seconds to load, and few queries want vectors as they are

        for places, block in self._parts(numbers[valid]):
            # torch widens half floats many times faster than numpy does.
            out[wanted[places]] = torch.from_numpy(block.take()).float().numpy()
        items = pa.array(out.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(items, self.length, mask=pa.array(~valid))

    def _dot(self, one: pa.Array, other: pa.Array) -> pa.Array:
        return self._compare(one, other, lambda products, squares, given: products)

    def _cosine(self, one: pa.Array, other: pa.Array) -> pa.Array:
        return self._compare(one, other, cosines)

    def _compare(
        self,
        one: pa.Array,
        other: pa.Array,
        finish: Callable[[np.ndarray, np.ndarray, Query], np.ndarray],
    ) -> pa.Array:
        (rows, rows_valid), (with_, with_valid) = _numbers(one), _numbers(other)
        valid = rows_valid & with_valid
        rows, with_ = rows[valid], with_[valid]
        # One side is a vector to compare with, usually the same for all.
        if len(np.unique(rows)) < len(np.unique(with_)):
            rows, with_ = with_, rows
        out = np.empty(len(rows), np.float32)
        for number in np.unique(with_).tolist():
            chosen, given = with_ == number, self._compared(number)
            out[chosen] = finish(*self._measure(rows[chosen], given), given)
        return _spread(out, valid)

    def _score(self, classes: pa.Array, handles: pa.Array) -> pa.Array:
        rows, valid = _numbers(handles)
        names = classes.dictionary_encode()
        which = names.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        valid &= which >= 0
        rows, which = rows[valid], which[valid]
        out = np.empty(len(rows), np.float32)
        for number in np.unique(which).tolist():
            chosen = which == number
            out[chosen] = self._scores.of(names.dictionary[number].as_py(), rows[chosen])
        return _spread(out, valid)

    def _prepare(self, handle: int) -> Query:
        ((_, block),) = self._located(np.array([handle]))
        return query(block.take()[0])

    def _measure(
        self, handles: Int[np.ndarray, " rows"], given: Query
    ) -> tuple[Float32[np.ndarray, " rows"], Float32[np.ndarray, " rows"]]:
        products, squares = np.empty((2, len(handles)), np.float32)
        for places, block in self._parts(handles):
            products[places], squares[places] = block.measure(given)
        return products, squares

    def _parts(
        self, handles: Int[np.ndarray, " rows"]
    ) -> Iterator[tuple[Int[np.ndarray, " places"], Block]]:
        """Yield the vectors of some handles.

        Each thread keeps its last ones: what is asked of one row with several classes, DuckDB asks
        one after the other, and in a store of maps they would be pooled each time.
        """
        thread = threading.get_ident()
        known, kept = self._last.pop(thread, (None, []))
        if known is not None and np.array_equal(known, handles):
            yield from kept
        else:
            kept, held_bytes = [], 0
            for part in self._located(handles):
                # Rows from here and there can hold a row group each.
                held_bytes += part[1].buffer.nbytes
                kept = [*kept, part] if held_bytes <= KEPT_BYTES else []
                yield part
        if kept:
            self._last[thread] = handles, kept

    def _located(
        self, handles: Int[np.ndarray, " rows"]
    ) -> Iterator[tuple[Int[np.ndarray, " places"], Block]]:
        stored = np.flatnonzero(handles >= 0)
        # A handle is a struct that anyone can write down.
        if (handles < -len(self._bound)).any():
            raise InputError(FOREIGN)
        for places, block in self._vectors.parts(rows_of(self._vectors, handles[stored])):
            yield stored[places], block
        bound = np.flatnonzero(handles < 0)
        if len(bound):
            given = np.stack([self._bound[-1 - number] for number in handles[bound]])
            yield bound, block_of(given, VectorSpec(self.length, "float32"))


def rows_of(vectors: Vectors, handles: Int[np.ndarray, " handles"]) -> Int[np.ndarray, " handles"]:
    """Return the rows, numbered through all shards, whose handles have these numbers."""
    shards = handles >> SHARD_BITS
    if (shards >= len(vectors.first) - 1).any():
        raise InputError(FOREIGN)
    return vectors.first[shards] + (handles & ((1 << SHARD_BITS) - 1))


def _numbers(
    handles: pa.Array,
) -> tuple[Int[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Return the numbers of handles, and which there are: after an outer join some are NULL."""
    (held,) = handles.flatten()  # NULL where the struct is
    valid = held.is_valid().to_numpy(zero_copy_only=False)
    return held.fill_null(0).to_numpy(), valid


def _spread(values: Float32[np.ndarray, " valid"], valid: Bool[np.ndarray, " rows"]) -> pa.Array:
    """Return values at the rows that have one, and NULL at the others."""
    out = np.zeros(len(valid), np.float32)
    out[valid] = values
    return pa.array(out, mask=~valid)
