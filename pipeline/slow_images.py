"""The two kinds of small image files that take hours to decode."""

import re

MAX_SCANS, MAX_SEGMENTS = 100, 10_000
MOST_WORDS_BYTES = 1 << 18  # of them some seconds
# Of a JPEG, where not in compressed data, in which 0xFF is followed by 0 or a mark to restart.
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_BEGIN, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def takes_hours(kind: str, data: bytes) -> str | None:
    """Return why decoding would take hours; None: it does not.

    A progressive JPEG has all its pixels go through each scan, and of each scan that is empty eight
    bytes are enough. Numbers of a PPM that are written as words are read letter by letter.

    Args:
        kind: Pillow's name of the format.
        data: the file.
    """
    if kind in ("JPEG", "MPO"):
        return _many_scans(data)
    if kind == "PPM" and data[:2] in (b"P1", b"P2", b"P3") and len(data) > MOST_WORDS_BYTES:
        return (
            f"a PPM of numbers in words of more than {MOST_WORDS_BYTES:,} bytes: save it as a "
            "binary one, or as PNG"
        )
    return None


def _many_scans(data: bytes) -> str | None:
    """Go through the segments of a JPEG to its end: behind it a phone may have put a film."""
    at = scans = 0
    for _ in range(MAX_SEGMENTS):
        found = _SEGMENT.search(data, at)
        # Pillow goes on behind an end without a scan before it.
        if found is None or (found[0] == _END and scans):
            return None
        at, scans = found.end(), scans + (found[0] == _SCAN)
        if found[0] not in (_BEGIN, _END):  # which have no length
            at += int.from_bytes(data[at : at + 2])
        if scans > MAX_SCANS:
            return f"more than {MAX_SCANS} scans; programs write about ten: save it again"
    return f"more than {MAX_SEGMENTS:,} segments; programs write some dozens: save it again"
