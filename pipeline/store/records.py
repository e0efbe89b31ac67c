"""The commit record of a shard, and where a shard's files lie.

A shard is one Parquet file of rows, and in a store of maps a second one of feature maps. One record
names them all: a shard without its record does not exist for any reader.

A data file's name ends in the first digits of its content's sha256. So two attempts that disagree
write two files, of which the record names one; two that agree write the same file.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.store.place import Place

FORMAT = 3  # who raises it raises the version of the jobs `extract`: they must run again
SHARDS, MAPS = "shards", "maps"  # folders of a store, and names of a shard's files in its record
RECORDS = "records"
NAME_DIGITS = 12  # of the sha256, in a file's name


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a shard, as it was written."""

    bytes: int
    rows: int
    sha256: str


class DataFiles:
    """What a record and a line of the manifest have in common: a shard's data files."""

    __slots__ = ()
    shard_id: str
    files: dict[str, FileRecord]
    """By folder: `shards`, and `maps` in a store of maps."""

    @property
    def rows(self) -> int:
        """Windows in the shard."""
        return self.files[SHARDS].rows

    @property
    def bytes(self) -> int:
        """Size of all its data files."""
        return sum(file.bytes for file in self.files.values())

    def name(self, folder: str) -> str:
        """Return where its file of that folder lies in the store."""
        return file_name(folder, self.shard_id, self.files[folder].sha256)


@dataclass(frozen=True)
class ShardRecord(DataFiles):
    """The commit record: everything needed to trust, or to rebuild the manifest from.

    It holds no times, so that equal work gives equal records.
    """

    shard_id: str
    made_from: str
    """Digest of network, recipe and schema (`store.json` has them in full)."""
    files: dict[str, FileRecord]
    images: dict[str, int]
    """Rows of each image."""
    quarantined: dict[str, str]
    """Reason for each image that could not be read."""
    input_sha256: str
    """Over the sha256 of each image file, in the order of the ids; a missing file adds nothing."""
    format: int = FORMAT

    @property
    def image_ids(self) -> list[str]:
        """All that went in, sorted, whether they could be read or not."""
        return sorted([*self.images, *self.quarantined])


def record_bytes(record: ShardRecord) -> bytes:
    """Return a record as its file holds it; equal records give equal bytes."""
    return to_json(asdict(record))


def to_json(content: Any) -> bytes:
    """Return `content` as the bytes of a JSON file; equal contents give equal bytes."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def from_json(data: bytes | None) -> Any:
    """Return what a JSON file holds, or None where it is absent, empty or cut short."""
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError):  # bytes that are no UTF-8 among them
        return None


def file_name(folder: str, shard_id: str, sha256: str) -> str:
    """Return where a shard's file with this content lies in the store."""
    return f"{folder}/{shard_id}-{sha256[:NAME_DIGITS]}.parquet"


def is_rows_name(name: object) -> bool:
    """Return whether it is the name of a shard's file of rows in a store."""
    folder, _, file = name.rpartition("/") if isinstance(name, str) else ("", "", "")
    found = shard_of(file)
    return folder == SHARDS and found is not None and is_shard_id(found[0])


def shard_of(name: str) -> tuple[str, str] | None:
    """Return the shard and the digits in the name of a data file, or None if it is none.

    >>> shard_of("00012-ab-0123456789ab.parquet")
    ('00012-ab', '0123456789ab')
    >>> shard_of("00012.parquet")
    """
    found = re.fullmatch(rf"(.+)-([0-9a-f]{{{NAME_DIGITS}}})\.parquet", name)
    return (found[1], found[2]) if found else None


def record_name(shard_id: str) -> str:
    """Return where the shard's commit record lies in the store."""
    return f"{RECORDS}/{shard_id}.json"


def read_record(root: Place, shard_id: str) -> ShardRecord | None:
    """Return the commit record, or None where the shard is not committed.

    A record that is empty, cut short or another shard's was never made.
    """
    record = parse_record(from_json(root.read(record_name(shard_id))))
    return record if record is not None and record.shard_id == shard_id else None


def parse_record(content: Any) -> ShardRecord | None:
    """Return the record in a JSON file's content, or None where it is not one."""
    try:
        files = {name: FileRecord(**file) for name, file in content["files"].items()}
        record = ShardRecord(**{**content, "files": files})
    except (TypeError, KeyError, AttributeError, ValueError):
        return None
    known = record.format == FORMAT and SHARDS in files and files.keys() <= {SHARDS, MAPS}
    # Ids and digests become file names, and must not lead out of the store.
    named = is_shard_id(record.shard_id) and all(map(is_file_record, files.values()))
    counted = _is_mapping(record.images, is_count) and _is_mapping(record.quarantined, _is_text)
    said = _is_text(record.made_from) and _is_text(record.input_sha256)
    return record if known and named and counted and said else None


def is_file_record(file: FileRecord) -> bool:
    """Return whether it is of the types that it should be: it may come from anybody's JSON."""
    return is_count(file.bytes) and is_count(file.rows) and is_sha256(file.sha256)


def is_count(value: object) -> bool:
    """Return whether it counts something: a whole number, and no more than there can be."""
    return type(value) is int and 0 <= value < 1 << 53


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_mapping(value: object, right: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value)) and all(map(right, value.values()))


def is_shard_id(text: object) -> bool:
    """Return whether it may be part of a file's name."""
    return isinstance(text, str) and re.fullmatch(r"[\w-][\w.-]{0,99}", text, re.ASCII) is not None


def is_sha256(text: object) -> bool:
    """Return whether it is a sha256 in hexadecimal digits."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def require_same_making(root: Place, record: ShardRecord, made_from: str) -> None:
    """Refuse to take a shard for another one's.

    Raises:
        InputError: the shard was made from something else.
    """
    if record.made_from != made_from:
        raise InputError(
            f"shard {record.shard_id} of {root} was made from {record.made_from}, and now from "
            f"{made_from}: choose another run directory, or remove this store"
        )


def footer_of(record: ShardRecord) -> dict[str, str]:
    """Return what the rows' file says of its shard in its own footer.

    Everything in the record but the file's own size and digest, which cannot stand in the file: a
    lost record is rebuilt from it (see `repair`).
    """
    content = asdict(record)
    content["files"].pop(SHARDS, None)
    return {FOOTER: json.dumps(content, sort_keys=True)}


def record_from_footer(metadata: Mapping[bytes, bytes], own: FileRecord) -> ShardRecord | None:
    """Return the record of a shard from the footer of its rows' file; `own`: that file."""
    content = from_json((metadata or {}).get(FOOTER.encode()))
    try:
        files = {**content["files"], SHARDS: asdict(own)}
        return parse_record({**content, "files": files})
    except (TypeError, KeyError):
        return None


FOOTER = "sppnet.record"
