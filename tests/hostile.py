"""What attackers write, for tests that must not fall for it."""

import struct
import zlib
from pathlib import Path


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header says so, and which has hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")):
        parts += [struct.pack(">I", len(data)), kind, data]
        parts.append(struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


class Payload:
    """What a pickle can hold: whoever unpickles it leaves a file behind."""

    def __init__(self, mark: str | Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")
