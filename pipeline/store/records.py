"""The commit record of a shard, and where a shard's files lie.

A shard is one Parquet file of rows, and in a store of maps a second one of feature maps. One record
names them all: a shard without its record does not exist for any reader.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.store.files import read_json

FORMAT = 2  # who raises it raises the version of the jobs `extract`: they must run again
SHARDS, MAPS = "shards", "maps"  # folders of a store, and names of a shard's files in its record


@dataclass(frozen=True)
class FileRecord:
    """One file of a shard, as it was written."""

    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class ShardRecord:
    """The commit record: everything needed to trust, or to rebuild the manifest from.

    It holds no times, so that equal work gives equal records.
    """

    shard_id: str
    made_from: str
    """Digest of network, recipe and schema (`store.json` has them in full)."""
    files: dict[str, FileRecord]
    """By folder: `shards`, and `maps` in a store of maps."""
    images: dict[str, int]
    """Rows of each image."""
    quarantined: dict[str, str]
    """Reason for each image that could not be read."""
    input_sha256: str
    """Over the bytes of the image files, in order."""
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """Windows in the shard."""
        return self.files[SHARDS].rows

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(file.bytes for file in self.files.values())


def shard_path(root: Path, shard_id: str) -> Path:
    """Return where the shard's rows lie."""
    return file_path(root, SHARDS, shard_id)


def maps_path(root: Path, shard_id: str) -> Path:
    """Return where the shard's feature maps lie, in a store of maps."""
    return file_path(root, MAPS, shard_id)


def file_path(root: Path, folder: str, shard_id: str) -> Path:
    """Return where the shard's file of that folder lies."""
    return root / folder / f"{shard_id}.parquet"


def record_path(root: Path, shard_id: str) -> Path:
    """Return where the shard's commit record lies."""
    return root / "records" / f"{shard_id}.json"


def read_record(root: Path, shard_id: str) -> ShardRecord | None:
    """Return the commit record, or None where the shard is not committed."""
    return parse_record(read_json(record_path(root, shard_id)))


def parse_record(content: Any) -> ShardRecord | None:
    """Return the record in a JSON file's content, or None where it is not one."""
    try:
        files = {name: FileRecord(**file) for name, file in content["files"].items()}
        record = ShardRecord(**{**content, "files": files})
    except (TypeError, KeyError, AttributeError):
        return None
    # An id becomes a file name, and must not lead out of the store; nor may a folder's name.
    known = record.format == FORMAT and SHARDS in files and files.keys() <= {SHARDS, MAPS}
    return record if known and Path(record.shard_id).name == record.shard_id else None
