"""Files of others, read whole: never more bytes than expected, and never what does not end."""

import errno
import os
import stat
from pathlib import Path

from pipeline.errors import InputError

NO_FILE = "it is no file, but a folder, a pipe or a device"


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
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise NoPlainFileError(NO_FILE) from None
        raise
    try:
        held = os.fstat(descriptor)
        if not stat.S_ISREG(held.st_mode):
            raise NoPlainFileError(NO_FILE)
        data = b""
        if held.st_size <= most_bytes:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(held.st_size + 1)
    finally:
        os.close(descriptor)
    if held.st_size > most_bytes:
        raise NoPlainFileError(
            f"the file has {held.st_size:,} bytes, more than the {most_bytes:,} that are read of "
            "such"
        )
    if len(data) > held.st_size:
        raise NoPlainFileError(f"the file has more than the {held.st_size:,} bytes that it says")
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
