"""Where a store lies: a local folder, or a prefix of an object store.

A place offers what a store needs and no more. Names are relative and have slashes; a file is whole
or absent whatever dies, and what a method has written is durable when it returns.

| | local folder | object store |
|---|---|---|
| create | written aside, synced, linked: a link never replaces | conditional put |
| replace | written aside, synced, renamed | put |
| spool, bring | written aside in the folder, renamed | temporary file here, uploaded |
| listing | one reading of the folder | one listing of the prefix |
| open | memory map | ranged requests |
"""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, TypeVar
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import machine
from pipeline.errors import InputError, SppError, UnreachableError
from pipeline.store.footers import plain_footer
from pipeline.store.uploads import Upload

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Listed:
    """What a listing says of one file."""

    bytes: int
    modified_s: float
    """Seconds since 1970."""


class Place(ABC):
    """A folder, wherever it lies; can be sent to other processes, and compared."""

    far: ClassVar[bool]
    """Whether every read is a request over a network: better few and large, and several at once."""

    @abstractmethod
    def __str__(self) -> str:
        """What a person typed."""

    @abstractmethod
    def __truediv__(self, name: str) -> "Place":
        """Return a folder inside."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the whole content, or None where there is no such file."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one, and return whether it was written.

        Of many who try at once, one at most is told True. False can also mean that our own
        request arrived and its answer did not: who must know reads what is there.
        """

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Write a file in place of the one that may be there."""

    @abstractmethod
    def listing(self, folder: str) -> dict[str, Listed]:
        """Return the files directly in a folder, by name, sorted; none where it is absent."""

    @abstractmethod
    def look(self, name: str) -> Listed | None:
        """Return what a listing would say of one file now, or None where there is none."""

    @abstractmethod
    def open(self, name: str, size_bytes: int | None = None) -> pa.NativeFile:
        """Open a file for reading anywhere in it.

        Args:
            name: of the file.
            size_bytes: where it is known; saves asking for it.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def digest(self, name: str) -> str | None:
        """Return the sha256 of a file's bytes, or None where there is no such file."""

    @abstractmethod
    def spool(self, name: str) -> AbstractContextManager[Path]:
        """Yield a local path to write a large file to; gone at the end, unless it was brought."""

    @abstractmethod
    def bring(self, spooled: Path, name: str) -> None:
        """Make what was written to a spool visible under its name, whole."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def uploads(self) -> list[Upload]:
        """Return what was begun to be brought in parts, and has not ended; listings hide it."""

    @abstractmethod
    def abort(self, upload: Upload) -> None:
        """Remove what has arrived of an upload; who is at work on it has to begin anew."""

    @abstractmethod
    def settle(self, folder: str) -> None:
        """Make durable what others may have left half-way: names in a folder, after a crash."""

    def each(
        self, function: Callable[[Item], Result], items: Iterable[Item], hashes: bool = False
    ) -> Iterator[Result]:
        """Yield the function of each item, in order; several at once where reads are requests.

        Args:
            function: reads of the place.
            items: taken as they are needed.
            hashes: whether it spends its time on large files: then several at once pay here, too.
        """
        here = min(machine.cpus(), HASHERS) if hashes else 1
        at_once = REQUESTS if self.far else here
        if at_once == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(at_once, thread_name_prefix="store") as pool:
            rest = iter(items)
            line: list[Future[Result]] = []
            try:
                # A bounded line: of 100,000 records only a few are held at a time.
                line.extend(pool.submit(function, item) for item in islice(rest, 2 * at_once))
                while line:
                    yield line.pop(0).result()
                    line.extend(pool.submit(function, item) for item in islice(rest, 1))
            finally:
                for waiting in line:
                    waiting.cancel()


REQUESTS = 16  # at once, by one process
HASHERS = 8  # files hashed at once: more than a disk gives


def place(where: "str | Path | Place") -> Place:
    """Return the place that a path or URI names.

    Args:
        where: a folder, a `file://` URI, `s3://bucket/prefix`, `gs://bucket/prefix`. Credentials
            and endpoints come from the environment (`AWS_ENDPOINT_URL`, ...) or from fsspec's
            configuration, as for every program that uses it.

    Raises:
        InputError: no such kind of place.
    """
    from pipeline.store.local import LocalFolder
    from pipeline.store.objects import PROTOCOLS, ObjectStore

    if isinstance(where, Place):
        return where
    parsed = urlparse(str(where))
    if isinstance(where, Path) or "://" not in str(where):
        return LocalFolder(Path(where))
    if parsed.scheme == "file":
        return LocalFolder(Path(unquote(parsed.path)))
    require_no_secret(str(where))
    if parsed.scheme not in PROTOCOLS:
        raise InputError(
            f"{where}: a store lies in a folder, or on {', '.join(f'{p}://' for p in PROTOCOLS)}; "
            f"{parsed.scheme}:// has no way to create a file only where there is none"
        )
    return ObjectStore(str(where).rstrip("/"))


def require_no_secret(address: str) -> None:
    """Refuse an address with a key or password in it, without repeating it.

    Raises:
        InputError: it has one.
    """
    parsed = urlparse(address)
    # Of a bucket an `@` is nothing else; other addresses may name a user, or a container.
    if parsed.password is not None or (parsed.scheme in ("s3", "gs") and "@" in parsed.netloc):
        raise InputError(
            f"{parsed.scheme}://…@…: an address with a key or password in it ends up in logs and "
            "records; give it to the environment (AWS_ACCESS_KEY_ID, ...) instead"
        )


def probe(root: Place) -> str | None:
    """Try whether shards can be committed in a place, before hours of work that is to go there.

    Who may write there and not remove can commit shards, too.

    Returns:
        A sentence about the small file that could not be removed again; None where none is left.

    Raises:
        InputError: nothing can be written there, or a file can be created twice.
        UnreachableError: an object store does not answer, or refuses.
    """
    name = f"probe.tmp.{uuid.uuid4().hex[:12]}"
    try:
        # The first may be told False, where its own answer was lost.
        root.create(name, b"first")
        try:
            created_again = root.create(name, b"second")
        finally:
            left = _left(root, name)
    except SppError:
        raise
    except OSError as error:
        raise InputError(f"{root} cannot be written to ({error}): choose another place") from None
    if created_again:
        raise InputError(
            f"{root} lets a file be created twice, and of two attempts at a shard both would count:"
            " choose an object store whose put honours If-None-Match"
        )
    return left


def _left(root: Place, name: str) -> str | None:
    try:
        root.remove(name)
    except OSError as error:
        cause = error.__cause__ or error
        return (
            f"{root}/{name}, a few bytes written to try the place, stays there, for it could not "
            f"be removed ({type(cause).__name__}: {cause}): remove it when you like"
        )
    return None


@contextmanager
def open_parquet(root: Place, name: str, size_bytes: int | None = None) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of a store.

    Raises:
        InputError: it is missing or damaged, or has extension types; or its damage is met later,
            while the file is open.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(root.open(name, size_bytes))
            footer = plain_footer(file)
            parquet = pq.ParquetFile(file, metadata=footer, pre_buffer=root.far)
            stack.enter_context(parquet)
        except FileNotFoundError:
            raise InputError(f"{root}/{name} is missing: see spp verify {root}") from None
        except UnreachableError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise _damaged(root, name, error) from None
        with damage_named(root, name):
            yield parquet


@contextmanager
def damage_named(root: Place, name: str) -> Iterator[None]:
    """Say which file of a store is damaged, where that shows only when it is read.

    Raises:
        InputError: it is.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if not is_damage(error):
            raise
        raise _damaged(root, name, error) from None


def is_damage(error: Exception) -> bool:
    """Return whether an error is about what a file holds: not about memory, rights or the disk."""
    # What the system says has a number.
    passes = isinstance(error, SppError | MemoryError)
    return not passes and getattr(error, "errno", None) is None


def _damaged(root: Place, name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{root}/{name} cannot be read ({reason}): see spp verify {root}")
