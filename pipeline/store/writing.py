"""One Parquet file in the making, hashed and brought to the disk while it is written."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store.place import Place
from pipeline.store.records import FileRecord

BLOCK_BYTES = 1 << 20  # stays in the cache of one core, between the page cache and the hash
SYNC_BYTES = 1 << 24  # a disk asked more often spends its time on its journal
PAGE_BYTES = 1 << 18  # pages that fit the cache: written 1.4 times as fast as pages of 26 MB


class GrowingFile:
    """A file whose sha256 and whose way to the disk keep pace with its writing.

    Both read what lies in the page cache, each on a thread of its own (neither holds Python's
    lock), so that a writer waits for the slowest of the three and not for their sum. Nothing is
    queued: the file itself is what the threads still have to do.
    """

    def __init__(self, path: Path, durable: bool = True) -> None:
        """Begin.

        Args:
            path: of the file.
            durable: False where it is only a stop on its way: then it need not reach the disk.
        """
        self._path, self._durable = path, durable
        self._digest = sha256()
        self._threads = [ThreadPoolExecutor(max_workers=1) for _ in range(2)]
        self._tasks: list[Future[None]] = []
        self._synced = 0

    def __enter__(self) -> "GrowingFile":
        self.sink = pa.OSFile(str(self._path), "w")
        self._file = self._path.open("rb", buffering=0)
        return self

    def grown(self) -> None:
        """Say that more has been written.

        Raises:
            OSError: what was written before could not be read again, or brought to the disk.
        """
        hashing, syncing = self._threads
        for task in [task for task in self._tasks if task.done()]:
            task.result()
            self._tasks.remove(task)
        self._tasks.append(hashing.submit(self._hash_to_the_end))
        if self._durable and self.sink.tell() - self._synced >= SYNC_BYTES:
            self._synced = self.sink.tell()
            self._tasks.append(syncing.submit(os.fsync, self._file.fileno()))

    def _hash_to_the_end(self) -> None:
        block = memoryview(bytearray(BLOCK_BYTES))
        while count := self._file.readinto(block):
            self._digest.update(block[:count])

    def finish(self) -> str:
        """Close the file and return the sha256 of its bytes.

        Raises:
            OSError: it holds other bytes than were written.
        """
        written = self.sink.tell()
        self.sink.close()
        hashing, syncing = self._threads
        self._tasks.append(hashing.submit(self._hash_to_the_end))
        if self._durable:
            self._tasks.append(syncing.submit(os.fsync, self._file.fileno()))
        for task in self._tasks:
            task.result()
        hashed, held = self._file.tell(), self._path.stat().st_size
        if not hashed == held == written:
            raise OSError(
                f"{self._path} holds {held:,} bytes of which {hashed:,} were read again; "
                f"{written:,} bytes were written"
            )
        return self._digest.hexdigest()

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        self.sink.close()
        self._file.close()


class ParquetPart:
    """One file of a shard: written aside, checked, and then brought to its place.

    Its name is known last, for it says what the content is.
    """

    def __init__(self, root: Place, stem: str, schema: pa.Schema) -> None:
        self._root, self._stem, self._schema = root, stem, schema
        self._rows = 0

    def __enter__(self) -> "ParquetPart":
        with ExitStack() as stack:  # a full disk may show at the first byte
            self._aside = stack.enter_context(self._root.spool(self._stem))
            growing = GrowingFile(self._aside, durable=not self._root.far)
            self._file = stack.enter_context(growing)
            writer = pq.ParquetWriter(self._file.sink, self._schema, **_options(self._schema))
            self._parquet = stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def write(self, table: pa.Table, group_rows: int) -> None:
        """Add rows, cut into row groups of `group_rows`."""
        self._parquet.write_table(table, row_group_size=max(group_rows, 1))
        self._rows += len(table)
        self._file.grown()

    def note(self, metadata: dict[str, str]) -> None:
        """Add to what the footer says."""
        self._parquet.add_key_value_metadata(metadata)

    def check(self) -> FileRecord:
        """Close the file and hold what lies there against what was written.

        Raises:
            OSError: they differ.
        """
        self._parquet.close()
        digest = self._file.finish()
        held = pq.read_metadata(self._aside).num_rows
        if held != self._rows:
            raise OSError(
                f"{self._root}/{self._stem} holds {held:,} rows; {self._rows:,} were written"
            )
        return FileRecord(self._aside.stat().st_size, held, digest)

    def bring(self, name: str) -> None:
        """Give the checked file its name."""
        self._root.bring(self._aside, name)

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def _options(schema: pa.Schema) -> dict[str, Any]:
    """Parquet settings: plain vectors, maps quick to unpack, everything else searchable.

    A dictionary or statistics on vectors cost 30 to 100 times their reading speed. Feature maps
    are mostly zeros: of 12 photographs' (SqueezeNet, 91% zeros) zstd at its quickest made 1/6.6,
    lz4 1/4.3, and unpacking is below a tenth of what pooling them takes.
    """
    large = {"vector", "map"} & set(schema.names)
    small = [name for name in schema.names if name not in large]
    row_bytes = _row_bytes(schema.field("vector").type) if "vector" in large else 1
    return {
        "compression": {**dict.fromkeys(schema.names, "ZSTD"), "vector": "NONE"},
        "compression_level": dict.fromkeys({*small, *(large - {"vector"})}, 1),
        "use_dictionary": [name for name in small if name in ("image_id", "source", "split")],
        "write_statistics": small,
        "data_page_size": PAGE_BYTES,
        "write_batch_size": min(max(PAGE_BYTES // row_bytes, 1), 1024),
    }


def _row_bytes(vector: pa.DataType) -> int:
    """Bytes of one vector in either layout."""
    if pa.types.is_fixed_size_list(vector):
        return vector.list_size * vector.value_type.bit_width // 8
    return vector.byte_width
