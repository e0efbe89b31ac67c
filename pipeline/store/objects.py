"""A store in an object store, through fsspec."""

import errno
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
from fsspec.config import conf

from pipeline.errors import InputError, UnreachableError
from pipeline.store.place import Listed, Place
from pipeline.store.refusals import CONFLICT, PRECONDITION, http_status, told
from pipeline.store.uploads import Upload, give_up, unfinished

# Those whose fsspec has a put that fails where the object exists. "memory" is for tests.
PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs", "memory": ""}
TRIES = 6  # of a request, with pauses that double from half a second to 20 s, times a random share
CONFLICT_S = 0.1  # first of such pauses where two create one object: it takes milliseconds
PART_BYTES = 1 << 24  # uploaded at a time
PARTS = 4  # uploaded at once
READ_BYTES = 1 << 23  # asked for at a time, to hash an object: several are hashed at once
CONNECTIONS = 32
_MODIFIED = ("LastModified", "updated", "mtime", "created")  # what a listing calls it


@dataclass(frozen=True)
class ObjectStore(Place):
    """A prefix of a bucket."""

    uri: str
    far: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "ObjectStore":
        return ObjectStore(f"{self.uri}/{name}")

    @property
    def filesystem(self) -> Any:
        """The fsspec file system; one for all threads of a process."""
        return _filesystem(self._protocol, os.getpid())

    @property
    def _protocol(self) -> str:
        return self.uri.partition("://")[0]

    def _path(self, name: str) -> str:
        return f"{self.uri}/{name}".rstrip("/")

    def read(self, name: str) -> bytes | None:
        """Return the whole content, or None where there is no such object."""
        # s3fs would first ask for the size, to read large objects in parts.
        options = {"max_concurrency": 1} if self._protocol == "s3" else {}
        with self._asking(name, "read"):
            try:
                return self.filesystem.cat_file(self._path(name), **options)
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes) -> bool:
        """Put an object unless there is one, and return whether it was put."""
        with self._asking(name, "created", writes=True):
            for number in range(TRIES):
                try:
                    self.filesystem.pipe_file(self._path(name), data, mode="create")
                except FileExistsError:
                    return False
                except OSError as error:
                    if http_status(error) == PRECONDITION:  # in words that s3fs does not know
                        return False
                    if http_status(error) != CONFLICT:
                        raise
                    # S3 could not decide between two that came at once.
                    time.sleep(CONFLICT_S * 2**number * random.random())
                else:
                    return True
        raise UnreachableError(
            f"{self._path(name)} could not be created: {TRIES} times another request for it was "
            "under way. Run the same command again: what is committed stays"
        )

    def replace(self, name: str, data: bytes) -> None:
        """Put an object in place of the one that may be there."""
        with self._asking(name, "written", writes=True):
            self.filesystem.pipe_file(self._path(name), data)

    def listing(self, folder: str) -> dict[str, Listed]:
        """Return the objects directly under a prefix, by name, sorted."""
        with self._asking(folder, "listed"):
            try:
                held = self.filesystem.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
        found = {
            each["name"].rpartition("/")[2]: Listed(each["size"], _modified_s(each))
            for each in held
            if each["type"] == "file"
        }
        found.pop("", None)  # what some programs put to show that there is a folder
        return dict(sorted(found.items()))

    def look(self, name: str) -> Listed | None:
        """Return what a listing would say of one object now, or None where there is none."""
        with self._asking(name, "looked at"):
            try:
                held = self.filesystem.info(self._path(name))
            except FileNotFoundError:
                return None
        return Listed(int(held["size"]), _modified_s(held))

    def open(self, name: str, size_bytes: int | None = None) -> pa.NativeFile:
        """Open an object; each read asks for exactly its bytes."""
        with self._asking(name, "opened"):
            if size_bytes is None:
                size_bytes = int(self.filesystem.info(self._path(name))["size"])
        return pa.PythonFile(_Ranges(self, name, size_bytes), mode="r")

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return some bytes of an object."""
        with self._asking(name, "read"):
            return self.filesystem.cat_file(self._path(name), start=start, end=stop)

    def digest(self, name: str) -> str | None:
        """Return the sha256 of an object's bytes, or None where there is no such object."""
        digest = sha256()
        try:
            with self.open(name) as file:
                while block := file.read(READ_BYTES):
                    digest.update(block)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    @contextmanager
    def spool(self, name: str) -> Iterator[Path]:
        """Yield a temporary file of this machine, in TMPDIR."""
        try:
            with _temporary_file() as path:
                yield path
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                errno.ENOSPC,
                f"no room in {tempfile.gettempdir()} for {name} on its way to {self}: set TMPDIR "
                "to a folder with room for two shards a worker",
            ) from error

    def bring(self, spooled: Path, name: str) -> None:
        """Upload a file, in parts if it is large; nothing is visible before it is whole."""
        options = {} if self._protocol == "memory" else {"chunksize": PART_BYTES}
        with self._asking(name, "uploaded", writes=True):
            self.filesystem.put_file(str(spooled), self._path(name), **options)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with self._asking(name, "removed"), suppress(FileNotFoundError):
            self.filesystem.rm_file(self._path(name))

    def uploads(self) -> list[Upload]:
        """Return uploads in parts that have not ended. gs:// ends them itself after a week."""
        with self._asking("", "asked for uploads that have not ended"):
            return list(unfinished(self.filesystem, self.uri)) if self._protocol == "s3" else []

    def abort(self, upload: Upload) -> None:
        """Remove the parts of an upload, if it has not ended."""
        with self._asking(upload.name, "given up"), suppress(FileNotFoundError):
            give_up(self.filesystem, upload)

    def settle(self, folder: str) -> None:
        """Nothing to do: what an object store has acknowledged is durable."""

    def _asking(self, name: str, asked: str, writes: bool = False) -> AbstractContextManager[None]:
        return told(self._path(name), asked, writes)


@cache
def _filesystem(protocol: str, _process: int) -> Any:
    """Return fsspec's file system; its connections do not survive a fork, hence the process."""
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol == "s3":
        # For DuckDB, which asks for what it needs: reading ahead, as s3fs does, fetched 154 MB for
        # a query over two columns of a store of 90 MB, and 532 MB for one over the vectors.
        options["default_cache_type"] = "none"
        given = conf.get("s3", {})
        options["max_concurrency"] = given.get("max_concurrency", PARTS)
        options["config_kwargs"] = {
            "retries": {"mode": "standard", "total_max_attempts": TRIES},
            "max_pool_connections": CONNECTIONS,
            **given.get("config_kwargs", {}),
        }
    try:
        if protocol == "s3":
            options["session"] = _session(conf.get("s3", {}).get("profile"))
        filesystem = fsspec.filesystem(protocol, **options)
    except ImportError as error:
        raise InputError(
            f"stores on {protocol}:// need {PROTOCOLS[protocol]} ({error}): "
            f"pip install 'sppnet[{protocol}]'"
        ) from None
    if protocol == "s3":
        # On top of botocore's: once more where an answer broke off while it was read.
        filesystem.retries = 2
    return filesystem


def _session(profile: str | None) -> Any:
    """Return a session of botocore whose puts do not ask for leave before they send their bytes.

    Where they do, aiohttp forgets how long it is to wait for the answer: of four puts to a server
    that never answers one or two waited for ever, whatever `read_timeout` said.
    """
    from aiobotocore.session import AioSession
    from botocore.handlers import add_expect_header

    session = AioSession(profile=profile)
    session.unregister("before-call.s3", add_expect_header)
    return session


@contextmanager
def _temporary_file() -> Iterator[Path]:
    """Yield the path of a file whose space is given back however the process ends."""
    if sys.platform == "linux":
        with tempfile.TemporaryFile() as file:  # has no name already
            yield Path(f"/proc/self/fd/{file.fileno()}")
    else:
        with tempfile.NamedTemporaryFile() as file:
            yield Path(file.name)


def _modified_s(listed: dict[str, Any]) -> float:
    when = next((listed[key] for key in _MODIFIED if listed.get(key) is not None), 0)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return when.timestamp() if isinstance(when, datetime) else float(when)


class _Ranges(io.RawIOBase):
    """An object as a file: each read is one request for exactly the bytes asked for.

    fsspec's own files read ahead, up to 50 MB: a query over a few columns would fetch all vectors.
    """

    def __init__(self, root: ObjectStore, name: str, size_bytes: int) -> None:
        self._root, self._name, self._size, self._at = root, name, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if stop <= self._at:
            return b""
        data = self._root.read_range(self._name, self._at, stop)
        self._at += len(data)
        return data
