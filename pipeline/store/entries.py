"""The manifest's content: a line for each shard, and what readers must know before they open one.

A manifest of 100,000 shards has 21 MB, and no image ids: records have them. It is read as lines,
and a line is taken apart when its shard is asked for; so opening a store takes a tenth of a second,
and the memory of the file.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, overload

from pipeline.errors import InputError
from pipeline.store.records import (
    FORMAT,
    MAPS,
    SHARDS,
    DataFiles,
    FileRecord,
    ShardRecord,
    from_json,
    is_count,
    is_file_record,
    is_rows_name,
    is_sha256,
    is_shard_id,
    to_json,
)


@dataclass(frozen=True, slots=True)
class ShardEntry(DataFiles):
    """A line of the manifest: what a reader must know of a shard before it opens it."""

    shard_id: str
    images: int
    quarantined: int
    """How many images could not be read; the record says why."""
    first: str | None
    """Of the ids of its images, sorted; quarantined ones too. None where it has no image."""
    last: str | None
    record_sha256: str
    """Of the bytes of the commit record."""
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A file beside the shards."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Totals:
    """Sums over the shards."""

    shards: int
    rows: int
    bytes: int
    images: int
    """That could be read."""
    quarantined: int
    first: str | None
    """Rows' file of the first shard; None where the dataset had no image."""

    @property
    def images_in(self) -> int:
        """All that went in."""
        return self.images + self.quarantined


@dataclass(frozen=True)
class Manifest:
    """What readers go by."""

    shards: "Lines | list[ShardEntry]"
    tables: Mapping[str, TableEntry]
    """Settings and labels, by file name; none where what is known of them is damaged."""
    totals: Totals


def totals_of(shards: Iterable[ShardEntry]) -> Totals:
    """Return the sums over shards, each of which is looked at once."""
    count, rows, size, images, quarantined, first = 0, 0, 0, 0, 0, None
    for entry in shards:
        count, rows, size = count + 1, rows + entry.rows, size + entry.bytes
        images, quarantined = images + entry.images, quarantined + entry.quarantined
        first = first or entry.name(SHARDS)
    return Totals(count, rows, size, images, quarantined, first)


def entry_of(record: ShardRecord, data: bytes) -> ShardEntry:
    """Return the line of the manifest for a record; `data`: the bytes of its file."""
    ids = record.image_ids
    return ShardEntry(
        record.shard_id,
        len(record.images),
        len(record.quarantined),
        ids[0] if ids else None,
        ids[-1] if ids else None,
        sha256(data).hexdigest(),
        record.files,
    )


# --- as a file ------------------------------------------------------------------------------------

_COLUMNS = ("shard_id", "images", "quarantined", "first", "last", "record_sha256")
_FILE = ("bytes", "rows", "sha256")
_BEGIN, _BETWEEN, _END = b' "shards": [\n', b",\n", b"\n]}\n"


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as JSON; equal manifests give equal bytes."""
    # All shards are of one kind.
    folders = sorted(manifest.shards[0].files) if manifest.shards else [SHARDS]
    head = {
        "format": FORMAT,
        "totals": asdict(manifest.totals),
        "columns": [*_COLUMNS, *(f"{folder}.{name}" for folder in folders for name in _FILE)],
    }
    opening = json.dumps(head, indent=1, sort_keys=True).removesuffix("\n}").encode()
    lines = _BETWEEN.join(_line(entry, folders) for entry in manifest.shards)
    return b"".join([opening, _BETWEEN, _BEGIN, lines, _END])


def _line(entry: ShardEntry, folders: Sequence[str]) -> bytes:
    files = [getattr(entry.files[folder], name) for folder in folders for name in _FILE]
    values = [*(getattr(entry, name) for name in _COLUMNS), *files]
    return json.dumps(values, separators=(",", ":")).encode()


def parse_manifest(data: bytes, tables: Mapping[str, TableEntry]) -> Manifest | None:
    """Return what the bytes of a manifest say, or None where they are not one, or cut short."""
    opening, begun, rest = data.partition(_BEGIN)
    head = from_json(opening.removesuffix(_BETWEEN) + b"}")
    if not begun or not rest.endswith(_END) or not isinstance(head, dict):
        return None
    lines = rest.removesuffix(_END).split(_BETWEEN) if rest != _END else []
    try:
        totals = Totals(**head["totals"])
        shards = Lines(tuple(head["columns"]), lines)
    except (TypeError, KeyError, AttributeError):
        return None
    numbers = (totals.shards, totals.rows, totals.bytes, totals.images, totals.quarantined)
    sound = all(map(is_count, numbers)) and (totals.first is None or is_rows_name(totals.first))
    known = sound and head.get("format") == FORMAT and totals.shards == len(lines)
    return Manifest(shards, tables, totals) if known else None


def tables_bytes(tables: Mapping[str, TableEntry]) -> bytes:
    """Return what is known of settings and labels, as the file beside the manifest holds it."""
    return to_json({name: asdict(table) for name, table in tables.items()})


def parse_tables(data: bytes | None) -> dict[str, TableEntry]:
    """Return what that file says; nothing where it is absent or damaged."""
    try:
        tables = {name: TableEntry(**table) for name, table in from_json(data).items()}
    except (TypeError, AttributeError):
        return {}
    sound = all(is_count(each.bytes) and is_sha256(each.sha256) for each in tables.values())
    return tables if sound else {}


def format_of(data: bytes | None) -> Any:
    """Return which format a manifest says it has; format 2 said so in each of its shards."""
    content = from_json(data)
    if not isinstance(content, dict):
        return None
    shards = content.get("shards") or [{}]
    said = shards[0].get("format") if isinstance(shards[0], dict) else None
    return content.get("format", said)


class Lines(Sequence[Any]):
    """The shards, each taken apart when it is asked for: as objects all take five times as much."""

    def __init__(self, columns: tuple[str, ...], lines: list[bytes]) -> None:
        self._columns, self._lines = columns, lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ShardEntry]: ...
    def __getitem__(self, index: int | slice) -> ShardEntry | Sequence[ShardEntry]:
        if isinstance(index, slice):
            return Lines(self._columns, self._lines[index])
        return self._entry(self._lines[index])

    def __iter__(self) -> Iterator[ShardEntry]:
        return map(self._entry, self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self._lines))

    def _entry(self, line: bytes) -> ShardEntry:
        try:
            values = dict(zip(self._columns, json.loads(line), strict=True))
            files = {
                folder: FileRecord(*(values[f"{folder}.{name}"] for name in _FILE))
                for folder in (SHARDS, MAPS)
                if f"{folder}.sha256" in values
            }
            entry = ShardEntry(**{name: values[name] for name in _COLUMNS}, files=files)
            # Ids and digests become file names, and must not lead out of the store.
            known = [is_shard_id(entry.shard_id), is_sha256(entry.record_sha256)]
            known += map(is_file_record, files.values())
            known += map(is_count, (entry.images, entry.quarantined))
            known += [isinstance(each, str | None) for each in (entry.first, entry.last)]
            if SHARDS in files and all(known):
                return entry
        except (TypeError, KeyError, ValueError, RecursionError):
            pass
        raise InputError(
            f"the manifest has a line that is no shard, {line[:40]!r}: spp fsck rebuilds it"
        )
