"""Where the vectors lie in a Parquet file that stores them as they are.

A column of fixed-size binary without compression, dictionary or nulls is pages, and a page is a
header and the values, one after the other. So vectors can be read where they are, mapped to memory,
at the speed that memory has; Parquet's readers copy them, at a fifth of it.
"""

import pyarrow.parquet as pq
from jaxtyping import Int, UInt8
from numpy import arange, concatenate, ndarray

from pipeline.errors import InputError

# Parquet's own numbers, and those of Thrift's compact protocol, in which headers are written.
_DATA_PAGE, _PLAIN = 0, 0
_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _BINARY, _STRUCT = 0, 1, 2, 3, 4, 5, 6, 8, 12
_DEEPEST = 8  # a page's header has statistics in a header of its kind


def lies_plain(column: pq.ColumnChunkMetaData) -> bool:
    """Return whether a row group's column is pages of values as they are, no list's items."""
    return (
        column.physical_type == "FIXED_LEN_BYTE_ARRAY"
        and "." not in column.path_in_schema
        and column.compression == "UNCOMPRESSED"
        and not column.has_dictionary_page
        and set(column.encodings) <= {"PLAIN", "RLE"}  # RLE: of levels, which it need not have
    )


def row_starts(chunk: UInt8[ndarray, " bytes"], rows: int, row_bytes: int) -> Int[ndarray, " rows"]:
    """Return at which byte of a row group's column each value begins.

    Args:
        chunk: all pages.
        rows: of the row group.
        row_bytes: of a value.

    Raises:
        InputError: these are not pages of so many values.
    """
    starts, found, at, header = [arange(0)], 0, 0, b""
    count = 0
    while found < rows:
        # Pages of one length have the same header: comparing is cheaper than reading.
        if not header or chunk[at : at + len(header)].tobytes() != header:
            count, size = _page(chunk, at, row_bytes)
            header = chunk[at : at + size].tobytes()
        first = at + len(header)
        at = first + count * row_bytes
        if not count or at > len(chunk):
            raise InputError("a page of vectors is cut short: see spp verify")
        starts.append(first + arange(count) * row_bytes)
        found += count
    if found > rows:
        raise InputError("pages have more vectors than there are rows: see spp verify")
    return concatenate(starts)


def _page(chunk: UInt8[ndarray, " bytes"], at: int, row_bytes: int) -> tuple[int, int]:
    """Return how many values a data page has, and the length of its header."""
    reader = _Compact(chunk, at)
    fields = reader.struct()
    data = fields.get(5)
    count = data.get(1) if isinstance(data, dict) and data.get(2) == _PLAIN else None
    # No more in the page than its values: no levels, which nulls would have.
    if (
        not isinstance(count, int)
        or count < 0
        or (fields.get(1), fields.get(3))
        != (
            _DATA_PAGE,
            count * row_bytes,
        )
    ):
        raise InputError("a page of vectors has a header that says otherwise: see spp verify")
    return count, reader.at - at


class _Compact:
    """Reads structs of Thrift's compact protocol, as far as page headers need it."""

    def __init__(self, data: UInt8[ndarray, " bytes"], at: int) -> None:
        self._data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, object]:
        """Return the fields of a struct by their numbers."""
        if depth > _DEEPEST:
            raise InputError("a page of vectors has a header without an end: see spp verify")
        fields: dict[int, object] = {}
        number = 0
        while (head := self._byte()) != _STOP:
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._signed()
            fields[number] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> object:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BINARY:
            length = self._unsigned()
            self.at += length
            return length
        raise InputError(f"a page of vectors has a header with a field of kind {kind}")

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise InputError("a page of vectors is cut short: see spp verify")
        self.at += 1
        return int(self._data[self.at - 1])

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
