"""Files of others, read whole: never more bytes than expected, and never what does not end."""

import os
import stat
from pathlib import Path

from pipeline.errors import InputError


class NoPlainFileError(InputError):
    """It is a folder, a pipe or a device, or has more bytes than such a file has."""


def read_plain(path: Path | str, most_bytes: int) -> bytes:
    """Return a file's bytes.

    Args:
        path: of the file; links are followed.
        most_bytes: that it may have.

    Raises:
        NoPlainFileError: the message is the reason, without the path.
        OSError: as the system says: it is not there, or may not be read.
    """
    # To open a pipe that nobody writes to would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        held = os.fstat(descriptor)
        if not stat.S_ISREG(held.st_mode):
            raise NoPlainFileError("it is no file, but a folder, a pipe or a device")
        data = b""
        if held.st_size <= most_bytes:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read()
    finally:
        os.close(descriptor)
    size_bytes = max(held.st_size, len(data))  # it may have grown meanwhile
    if size_bytes > most_bytes:
        raise NoPlainFileError(
            f"the file has {size_bytes:,} bytes, more than the {most_bytes:,} that are read of such"
        )
    return data


def read_text(path: Path, most_bytes: int) -> str:
    """Return a file's text, which is UTF-8.

    Raises:
        InputError: it is no plain file, or no text; the message names it.
        OSError: as for `read_plain`.
    """
    try:
        return read_plain(path, most_bytes).decode("utf-8-sig")
    except (NoPlainFileError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a text: {error}") from None
