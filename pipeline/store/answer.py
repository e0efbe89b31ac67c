"""The rows that DuckDB answers with, the vectors put in for their handles; and its errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from pipeline.errors import InputError, SppError
from pipeline.store.vector_functions import HANDLE, SQL_HANDLE, VectorFunctions

FILLED_BYTES = 1 << 25  # of vectors at a time


class Answer:
    """The rows of an answer, as they come; once only, and while it is open.

    Attributes:
        schema: columns of vectors are `fixed_size_list<float>`, as long as the store's.
    """

    def __init__(self, reader: pa.RecordBatchReader, functions: VectorFunctions) -> None:
        self._reader, self._functions = reader, functions
        self._vectors = pa.list_(pa.float32(), functions.length)
        fields = [self._field(field) for field in reader.schema]
        names = _different([field.name for field in fields])
        self.schema = pa.schema(
            [field.with_name(name) for field, name in zip(fields, names, strict=True)]
        )

    def _field(self, field: pa.Field) -> pa.Field:
        if field.type == HANDLE:
            return pa.field(field.name, self._vectors)
        if HANDLE in _inside(field.type):
            kind = str(field.type).partition("<")[0]
            raise InputError(
                f"the column {field.name} of the answer has vectors inside of a {kind}: use "
                "vec(vector) there, or leave vectors as columns of their own"
            )
        return field

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield batches with the vectors read, some 32 MB of them at a time."""
        for batch in self.unread():
            yield from self.read(batch)

    def unread(self) -> Iterator[pa.RecordBatch]:
        """Yield batches for `read`: to count rows, no vector need be read."""
        with told(self._functions):
            yield from self._reader

    def read(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a batch with their vectors."""
        wide = HANDLE in batch.schema.types
        rows = max(FILLED_BYTES // (4 * self._functions.length), 1) if wide else len(batch)
        for start in range(0, len(batch), max(rows, 1)):
            part = batch.slice(start, rows)
            columns = [self._column(*one) for one in zip(self.schema, part.columns, strict=True)]
            yield pa.record_batch(columns, schema=self.schema)

    def _column(self, field: pa.Field, column: pa.Array) -> pa.Array:
        if column.type == HANDLE:
            return self._functions.widened(column)
        if field.name == "column_type":  # DESCRIBE windows
            said = [
                f"FLOAT[{self._functions.length}]" if text == SQL_HANDLE else text
                for text in column.to_pylist()
            ]
            return pa.array(said, field.type)
        return column


@contextmanager
def told(functions: VectorFunctions) -> Iterator[None]:
    """Say in one form what DuckDB says in several."""
    try:
        yield
    except SppError:
        raise
    # What goes wrong while rows are taken comes through Arrow, as one of the latter two.
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if functions.failed is not None:
            raise functions.failed from None
        hint = ""
        if SQL_HANDLE in str(error):
            hint = (
                f"\nA vector is taken by dot, cosine and score; vec(vector) is FLOAT"
                f"[{functions.length}], and a vector from outside is bound as a parameter"
            )
        # What it points at from a line below it has named before, and errors are one line.
        said = str(error).partition("\n\nLINE ")[0].replace(SQL_HANDLE, "VECTOR").strip()
        raise InputError(f"the query failed: {said}{hint}") from None


def _different(names: Sequence[str]) -> list[str]:
    """Return names of which none occurs twice.

    >>> _different(["a", "b", "a", "a_1"])
    ['a', 'b', 'a_2', 'a_1']
    """
    taken, out = set(names), list[str]()
    for name in names:
        number = 0
        unique = name
        while unique in out or (number and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        out.append(unique)
    return out


def _inside(kind: pa.DataType) -> Iterator[pa.DataType]:
    """Yield the types that a type is made of."""
    for number in range(kind.num_fields):
        part = kind.field(number).type
        yield part
        yield from _inside(part)
