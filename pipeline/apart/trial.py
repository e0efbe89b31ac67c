"""Decoding each image in a process of its own first, while one of them is suspected.

A decoder in C that believes a damaged file ends its process, and with it all that the process had
in hand. Where a worker has died, and one of its images may be why, the next one is wary.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.apart import FAULTS, EndedError, read_apart
from pipeline.errors import InputError

_wary = threading.Event()


@contextmanager
def wary() -> Iterator[None]:
    """Try each image apart, in all threads of this process; that costs a second an image."""
    _wary.set()
    try:
        yield
    finally:
        _wary.clear()


def is_fatal(data: bytes, max_pixels: int) -> str | None:
    """Return how decoding an image ends the process that does; None: it does not, or nobody asks.

    Args:
        data: the file.
        max_pixels: as for `images.decode`.
    """
    if not _wary.is_set():
        return None
    try:
        read_apart("image", str(max_pixels), given=data)
    except EndedError as error:
        return str(error) if error.sign in FAULTS else None
    except InputError:  # it will say so again
        return None
    return None
