"""Footers of Parquet files, read before anything else is believed of them.

What opens a Parquet file makes its Arrow schema from what the footer says, and where that names an
extension type which some package has registered, that package's code runs on bytes from the file.
So the footer is looked at first. Neither a shard nor a table that is imported has such types.
"""

import stat
from base64 import b64encode
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.plain_files import NO_FILE

MAGIC = b"PAR1"
TAIL_BYTES = 1 << 16  # read at once: the footer of most files fits
MOST_FOOTER_BYTES = 1 << 28  # 10,000 columns in 1,000 row groups; a lying length asks for 4 GB
_NAME = b"ARROW:extension:name"


def _spellings(text: bytes) -> list[bytes]:
    """Return what is in base64 wherever `text` is in what was encoded: at three places of three."""
    found = []
    for before in range(3):
        encoded = b64encode(b"\0" * before + text + b"\0\0")
        found.append(encoded[-(-before * 8 // 6) : (before + len(text)) * 8 // 6])
    return found


# The Arrow schema lies in the footer in base64.
_NEEDLES = (_NAME, *_spellings(_NAME))


def plain_footer(file: pa.NativeFile) -> pq.FileMetaData:
    """Return what a Parquet file says of itself, if it has plain types only.

    Args:
        file: open for reading anywhere in it.

    Raises:
        ArrowInvalid: it is no Parquet file, cut short, encrypted, or has columns of extension
            types. As all that is wrong with such a file: who reads it says which it is.
    """
    size_bytes = file.size()
    tail = file.read_at(min(TAIL_BYTES, size_bytes), max(0, size_bytes - TAIL_BYTES))
    if size_bytes < 12 or tail[-4:] != MAGIC:
        raise pa.ArrowInvalid("it does not end as Parquet does")
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if footer_bytes > min(size_bytes, MOST_FOOTER_BYTES):
        raise pa.ArrowInvalid(f"a footer of {footer_bytes:,} bytes, of {size_bytes:,} in all")
    if footer_bytes > len(tail):
        tail = file.read_at(footer_bytes, size_bytes - footer_bytes)
    footer = tail[-footer_bytes:]
    if any(needle in footer for needle in _NEEDLES):
        raise pa.ArrowInvalid(
            "a column has an Arrow extension type, which code of others would have to read: only "
            "numbers, texts, bytes and lists are"
        )
    try:
        return pq.read_metadata(pa.BufferReader(MAGIC + footer))
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"a column has a name that is no text: {error}") from None


def require_plain_arrow(file: pa.NativeFile) -> None:
    """Refuse an Arrow file whose schema has extension types, before it is opened.

    Args:
        file: open for reading anywhere in it. Its schema is taken from its footer.

    Raises:
        ArrowInvalid: it has, or it is no such file.
    """
    size_bytes = file.size()
    tail = file.read_at(min(TAIL_BYTES, size_bytes), max(0, size_bytes - TAIL_BYTES))
    footer_bytes = int.from_bytes(tail[-10:-6], "little") + 10
    if tail[-6:] != b"ARROW1" or footer_bytes > len(tail):
        raise pa.ArrowInvalid("it does not end as Arrow's files do")
    if _NAME in tail[-footer_bytes:]:
        raise pa.ArrowInvalid("a column has an Arrow extension type")


def require_plain(path: Path) -> pq.FileMetaData:
    """Return what a local file says of itself; see `plain_footer`.

    Raises:
        InputError: as there, or it cannot be opened.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise pa.ArrowInvalid(NO_FILE)
        with pa.OSFile(str(path)) as file:
            return plain_footer(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not Parquet that can be read: {error}") from None
