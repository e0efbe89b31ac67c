"""`spp fsck`: put right what can be put right from what is there, without computing anything.

| what is wrong | what is done |
|---|---|
| a record is lost, empty or cut short; the data are whole | rebuilt from the rows' footer |
| data are missing, cut short or changed | the record is dropped; the next run makes it again |
| the manifest is lost or damaged, every image is in a record | rebuilt from the records |
| the same, and images are in no record | left away: the store is not finished |
| a shard was dropped, or labels or settings are damaged | the manifest is dropped, likewise |

Data files are never removed, see `garbage`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store.coverage import IMAGES, by_first_image, image_faults
from pipeline.store.entries import Manifest, ShardEntry, entry_of, totals_of
from pipeline.store.manifest import (
    MANIFEST,
    SETTINGS,
    TABLES,
    TABLES_RECORD,
    readable_manifest,
    write_manifest,
)
from pipeline.store.place import Listed, Place, open_parquet
from pipeline.store.records import (
    RECORDS,
    SHARDS,
    FileRecord,
    ShardRecord,
    from_json,
    parse_record,
    read_record,
    record_bytes,
    record_from_footer,
    record_name,
    shard_of,
)
from pipeline.store.verification import (
    Listings,
    content_fault,
    data_fault,
    require_listings,
    table_fault,
)


@dataclass
class Mended:
    """A shard after it was looked at."""

    entry: ShardEntry | None = None
    """None: it must be made again."""
    said: list[str] = field(default_factory=list)


def fsck(root: Place) -> list[str]:
    """Mend a store; return what was done and what must be made again, a sentence each.

    Every byte is read. Nothing is said of what is in order: an empty list means a whole store.
    Run it while no run is at work on the store.

    Raises:
        InputError: there is no store.
    """
    held = require_listings(root)
    manifest = readable_manifest(root)
    known = _known(held) if manifest is None else [entry.shard_id for entry in manifest.shards]
    named = {} if manifest is None else {entry.shard_id: entry for entry in manifest.shards}
    said: list[str] = []
    entries: list[ShardEntry] = []
    mend = partial(mend_shard, root, held, named=named)
    for mended in root.each(mend, known, hashes=True):
        said.extend(mended.said)
        entries.extend([] if mended.entry is None else [mended.entry])
    lost = len(known) - len(entries)
    unfinished = list(_unfinished(root, held, manifest, entries, lost))
    if unfinished:
        if MANIFEST in held[""]:
            root.remove(MANIFEST)
            said.append(f"{MANIFEST} is dropped, for the store is not whole")
        return [*said, *unfinished, "run the recipe again: it makes what is missing, and no more"]
    order = by_first_image(entries)
    if manifest is None or list(manifest.shards) != order or manifest.totals != totals_of(order):
        write_manifest(root, order)
        said.append(f"{MANIFEST} is rebuilt from {len(order):,} records")
    elif not manifest.tables:
        write_manifest(root, order)
        said.append(f"{TABLES_RECORD} is rebuilt from the files that it tells of")
    return said


def _known(held: Listings) -> list[str]:
    """Return the ids of all shards of which there is a record or a file of rows."""
    records = {name.removesuffix(".json") for name in held[RECORDS] if name.endswith(".json")}
    rows = {found[0] for name in held[SHARDS] if (found := shard_of(name))}
    return sorted(records | rows)


def mend_shard(root: Place, held: Listings, shard_id: str, named: dict[str, ShardEntry]) -> Mended:
    """Mend one shard, or drop its record; `named`: what the manifest says of each."""
    data = root.read(record_name(shard_id))
    record = parse_record(from_json(data))
    if record is not None and data is not None and record.shard_id == shard_id:
        entry = entry_of(record, data)
        # Looked at now: a shard may have been made again since it was listed.
        problem = data_fault(root, _looked_at(root, entry), entry) or content_fault(root, record)
        if problem is None and named.get(shard_id, entry) == entry:
            return Mended(entry)
        problem = problem or "its record is not what the manifest says"
    else:
        problem = "its record is missing" if data is None else "its record cannot be read"
    rebuilt = next(_rebuilt(root, held, shard_id, named.get(shard_id)), None)
    if rebuilt is not None:
        root.replace(record_name(shard_id), record_bytes(rebuilt))
        text = f"shard {shard_id}: {problem}; the record is rebuilt from the rows"
        return Mended(entry_of(rebuilt, record_bytes(rebuilt)), [text])
    dropped = ""
    if data is not None and root.read(record_name(shard_id)) == data:
        root.remove(record_name(shard_id))
        dropped = "its record is dropped, "
    return Mended(None, [f"shard {shard_id}: {problem}; {dropped}and it must be made again"])


def _looked_at(root: Place, entry: ShardEntry) -> Listings:
    """Return what listings would say of a shard's data files now."""
    held: dict[str, dict[str, Listed]] = {}
    for folder in entry.files:
        listed = root.look(entry.name(folder))
        file = entry.name(folder).rpartition("/")[2]
        held[folder] = {} if listed is None else {file: listed}
    return held


def _rebuilt(
    root: Place, held: Listings, shard_id: str, entry: ShardEntry | None
) -> Iterator[ShardRecord]:
    """Yield the records that the shard's files of rows can have, the manifest's one first."""
    names = [name for name in held[SHARDS] if (shard_of(name) or ("", ""))[0] == shard_id]
    expected = None if entry is None else entry.name(SHARDS)
    for name in sorted(names, key=lambda name: f"{SHARDS}/{name}" != expected):
        digest = root.digest(f"{SHARDS}/{name}")
        if digest is None:
            continue
        try:
            with open_parquet(root, f"{SHARDS}/{name}") as file:
                own = FileRecord(held[SHARDS][name].bytes, file.metadata.num_rows, digest)
                record = record_from_footer(file.metadata.metadata, own)
        except InputError:
            continue
        if record is None or record.shard_id != shard_id:
            continue
        # Among other things, whether the file has the name that such a content gives it.
        whole = data_fault(root, held, entry_of(record, record_bytes(record)))
        if whole is None and content_fault(root, record) is None:
            yield record


def _unfinished(
    root: Place,
    held: Listings,
    manifest: Manifest | None,
    entries: Sequence[ShardEntry],
    lost: int,
) -> Iterator[str]:
    """Yield why readers must not take the store for whole."""
    damaged = False
    for name in (SETTINGS, *TABLES):
        if manifest is not None and manifest.tables:
            problem = table_fault(root, held, manifest, name)
        else:
            problem = _unreadable(root, name)
        if problem is not None:
            yield f"{name} {problem}"
            damaged = True
    if lost:
        yield f"{lost:,} of {lost + len(entries):,} shards must be made again"
    elif not damaged and manifest is None:
        order = by_first_image(entries)
        records = root.each(partial(read_record, root), [entry.shard_id for entry in order])
        try:
            for fault in image_faults(root, order, records):
                yield f"{fault.shard_id} {fault.problem}"
        except pa.ArrowException as error:
            yield f"{IMAGES} cannot be read ({error})"


def _unreadable(root: Place, name: str) -> str | None:
    """Return whether a table or the settings can be read; without a manifest, no more is known."""
    try:
        if name == SETTINGS:
            return None if isinstance(from_json(root.read(name)), dict) else "cannot be read"
        with open_parquet(root, name):
            return None
    except InputError as error:
        return f"cannot be read ({error})"
