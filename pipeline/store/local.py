"""A store in a local folder."""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.plain_files import NO_FILE, NoPlainFileError, read_plain
from pipeline.store.files import file_sha256, sync
from pipeline.store.place import Listed, Place
from pipeline.store.uploads import Upload

# What a file system without hard links says: exFAT, some shares.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

MOST_JSON_BYTES = 1 << 32  # a manifest of 100,000 shards has 21 MB


@dataclass(frozen=True)
class LocalFolder(Place):
    """A folder of this machine, or one that a network brings to all machines."""

    path: Path
    top: Path | None = field(default=None, compare=False)
    """The folder that a person named, of which this one is a part; None: this one."""
    far: ClassVar[bool] = False

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> "LocalFolder":
        return LocalFolder(self.path / name, self.top or self.path)

    def _inside(self, name: str) -> Path:
        """Return the path of a file, which no link below the folder may stand for.

        Else a store of others could have files read, or removed, that are not the store's. The
        folder itself may be reached by a link: a person has named it.

        Raises:
            InputError: there is a link.
        """
        path = self.top or self.path
        for part in (self.path.relative_to(path) / name).parts:
            path /= part
            if path.is_symlink():
                raise InputError(
                    f"{path} is a link, and a store has files of its own only: put the file, or "
                    "the whole store, where the link leads"
                )
        return path

    def read(self, name: str) -> bytes | None:
        """Return the whole content, or None where there is no such file."""
        try:
            return read_plain(self._inside(name), MOST_JSON_BYTES)
        except NoPlainFileError as error:
            raise InputError(f"{self}/{name} cannot be read: {error}") from None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one, and return whether it was written."""
        path = self.path / name
        with self.spool(name) as aside:
            aside.write_bytes(data)
            sync(aside)
            created = _link(aside, path)
        # The loser syncs too: it will say that the file is there, and must not be belied.
        sync(path.parent)
        return created

    def replace(self, name: str, data: bytes) -> None:
        """Write a file in place of the one that may be there."""
        with self.spool(name) as aside:
            aside.write_bytes(data)
            self.bring(aside, name)

    def listing(self, folder: str) -> dict[str, Listed]:
        """Return the files directly in a folder, by name, sorted."""
        found: dict[str, Listed] = {}
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self._inside(folder)) as all_,
        ):
            for entry in all_:
                with suppress(FileNotFoundError):  # removed since the folder was read
                    if entry.is_file(follow_symlinks=False):
                        held = entry.stat()
                        found[entry.name] = Listed(held.st_size, held.st_mtime)
        return dict(sorted(found.items()))

    def look(self, name: str) -> Listed | None:
        """Return what a listing would say of one file now, or None where there is none."""
        try:
            held = self._inside(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(held.st_mode):
            return None
        return Listed(held.st_size, held.st_mtime)

    def open(self, name: str, size_bytes: int | None = None) -> pa.NativeFile:
        """Map the file into memory."""
        path = self._inside(name)
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} cannot be read: {NO_FILE}")
        return pa.memory_map(str(path))

    def digest(self, name: str) -> str | None:
        """Return the sha256 of a file's bytes, or None where there is no such file."""
        # Not through the map: a disk that fails would end the process, not raise.
        try:
            path = self._inside(name)
            return file_sha256(path) if stat.S_ISREG(path.stat().st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    @contextmanager
    def spool(self, name: str) -> Iterator[Path]:
        """Yield a path beside the file's, unique to the attempt."""
        path = self._inside(name)
        _make_folder(path.parent)
        aside = path.with_name(f"{path.name}.tmp.{uuid.uuid4().hex[:12]}")
        try:
            yield aside
        finally:
            aside.unlink(missing_ok=True)

    def bring(self, spooled: Path, name: str) -> None:
        """Rename, and bring the name to the disk."""
        sync(spooled)
        spooled.rename(self.path / name)
        sync((self.path / name).parent)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self._inside(name).unlink()

    def uploads(self) -> list[Upload]:
        """Nothing: files are renamed whole."""
        return []

    def abort(self, upload: Upload) -> None:
        """Nothing to do."""

    def settle(self, folder: str) -> None:
        """Bring the names in a folder to the disk."""
        if (self.path / folder).is_dir():
            sync(self.path / folder)


def _make_folder(folder: Path) -> None:
    """Make a folder, and bring its name to the disk: a crash would take its files with it."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync(each.parent)


def _link(aside: Path, path: Path) -> bool:
    """Give a file its name unless there is one of that name."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Two may pass here at once, and both be told True. The later one's file stays, whole; as
        # records name their data files by content, the earlier one's data is garbage, not damage.
        if path.exists():
            return False
        aside.rename(path)
    return True
