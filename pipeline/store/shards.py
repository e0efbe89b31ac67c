"""Writing one shard so that it is either committed whole or not there (HOUSE §5).

Written aside under a name of this attempt's own, synced, checked, renamed; then the commit record.
A shard without its record does not exist for any reader.
"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store.files import read_json, write_json, written_aside

FORMAT = 1


@dataclass(frozen=True)
class ShardRecord:
    """The commit record: everything needed to trust, or to rebuild the manifest from.

    It holds no times, so that equal work gives equal records.
    """

    shard_id: str
    made_from: str
    """Digest of network, recipe and schema (`store.json` has them in full)."""
    sha256: str
    bytes: int
    rows: int
    images: dict[str, int]
    """Rows of each image."""
    quarantined: dict[str, str]
    """Reason for each image that could not be read."""
    input_sha256: str
    """Over the bytes of the image files, in order."""
    format: int = FORMAT


def shard_path(root: Path, shard_id: str) -> Path:
    """Return where the shard's rows lie."""
    return root / "shards" / f"{shard_id}.parquet"


def record_path(root: Path, shard_id: str) -> Path:
    """Return where the shard's commit record lies."""
    return root / "records" / f"{shard_id}.json"


def read_record(root: Path, shard_id: str) -> ShardRecord | None:
    """Return the commit record, or None where the shard is not committed."""
    return parse_record(read_json(record_path(root, shard_id)))


def parse_record(content: Any) -> ShardRecord | None:
    """Return the record in a JSON file's content, or None where it is not one."""
    try:
        record = ShardRecord(**content)
        # An id becomes a file name, and must not lead out of the store.
        return record if Path(record.shard_id).name == record.shard_id else None
    except TypeError:
        return None


class ShardWriter:
    """Write rows, then `commit`; leaving the `with` block without a commit leaves nothing.

    Row groups are cut at `row_group_bytes` of vectors, so that readers fetch and keep little.
    """

    def __init__(self, root: Path, shard_id: str, schema: pa.Schema, row_group_bytes: int) -> None:
        self._root, self._shard_id, self._schema = root, shard_id, schema
        self._row_group_bytes = row_group_bytes
        self._waiting: list[pa.Table] = []
        self.rows = 0

    def __enter__(self) -> "ShardWriter":
        self._stack = ExitStack()
        path = shard_path(self._root, self._shard_id)
        self._aside = self._stack.enter_context(written_aside(path))
        self._file = self._stack.enter_context(_HashedFile(self._aside))
        parquet = pq.ParquetWriter(self._file.sink, self._schema, **_options(self._schema))
        self._parquet = self._stack.enter_context(parquet)
        return self

    def write(self, rows: pa.Table) -> None:
        """Add the rows of one or more whole images."""
        self._waiting.append(rows)
        self.rows += len(rows)
        if sum(table.nbytes for table in self._waiting) >= self._row_group_bytes:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).unify_dictionaries()
            self._parquet.write_table(table, row_group_size=max(len(table), 1))
            self._waiting = []

    def commit(
        self,
        made_from: str,
        images: dict[str, int],
        quarantined: dict[str, str],
        input_sha256: str,
    ) -> ShardRecord:
        """Close, check, rename and record the shard.

        Raises:
            OSError: what lies on the disk is not what was written.
        """
        self._flush()
        self._parquet.close()
        self._file.close()
        written = pq.read_metadata(self._aside)
        size = self._aside.stat().st_size
        if written.num_rows != self.rows or size != self._file.bytes:
            raise OSError(
                f"shard {self._shard_id} holds {written.num_rows} rows in {size} bytes; "
                f"{self.rows} rows in {self._file.bytes} bytes were written"
            )
        self._stack.close()
        record = ShardRecord(
            shard_id=self._shard_id,
            made_from=made_from,
            sha256=self._file.sha256.hexdigest(),
            bytes=size,
            rows=self.rows,
            images=images,
            quarantined=quarantined,
            input_sha256=input_sha256,
        )
        write_json(record_path(self._root, self._shard_id), asdict(record))
        return record

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A second close after `commit` finds an empty stack; without one, the file goes away.
        failed = error or RuntimeError("left without a commit")
        self._stack.pop_all().__exit__(type(failed), failed, trace)


class _HashedFile:
    """A file that knows the sha256 of what went into it, so that it need not be read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.sha256, self.bytes = sha256(), 0

    def __enter__(self) -> "_HashedFile":
        self._raw: BinaryIO = self._path.open("wb", buffering=0)
        self.sink = pa.PythonFile(self, mode="w")
        return self

    def write(self, data: bytes | pa.Buffer) -> int:
        view = memoryview(data)
        self.sha256.update(view)
        self.bytes += view.nbytes
        done = 0
        while done < view.nbytes:  # an unbuffered write may take less than it was given
            done += self._raw.write(view[done:]) or 0
        return view.nbytes

    def flush(self) -> None:
        """Nothing is held back here."""

    def tell(self) -> int:
        return self.bytes

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def close(self) -> None:
        self._raw.close()

    def __exit__(self, *_: object) -> None:
        self._raw.close()


def _options(schema: pa.Schema) -> dict[str, Any]:
    """Parquet settings: plain and uncompressed vectors, small and searchable everything else.

    A dictionary or statistics on vectors cost 30 to 100 times their reading speed.
    """
    scalars = [field.name for field in schema if field.name != "vector"]
    return {
        "compression": {**dict.fromkeys(scalars, "ZSTD"), "vector": "NONE"},
        "use_dictionary": [name for name in scalars if name in ("image_id", "source", "split")],
        "write_statistics": scalars,
    }
