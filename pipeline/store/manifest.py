"""What a store holds: the settings that made it, its shards, and the manifest that readers trust.

store.json      what made it: network, layer, scales, pyramid, windows; refused when it differs
shards/         rows                          records/   one commit record a shard
maps/           feature maps, in a store of maps
images.parquet  every image that went in      objects.parquet   the labels, apart from the rows
tables.json     size and digest of settings and labels
manifest.json   written last; readers trust nothing else

What the manifest says is decided by what was extracted: where the images lie, which their table
says, changes none of its bytes. Hence two files.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import InputError
from pipeline.store.entries import (
    Manifest,
    ShardEntry,
    TableEntry,
    Totals,
    entry_of,
    format_of,
    manifest_bytes,
    parse_manifest,
    parse_tables,
    tables_bytes,
    totals_of,
)
from pipeline.store.place import Listed, Place
from pipeline.store.records import (
    FORMAT,
    MAPS,
    RECORDS,
    SHARDS,
    from_json,
    parse_record,
    record_name,
    to_json,
)

SETTINGS, MANIFEST, TABLES_RECORD = "store.json", "manifest.json", "tables.json"
TABLES = ("images.parquet", "objects.parquet")
UNREADABLE = "is missing, or cannot be read"


# --- before and during the extraction ------------------------------------------------------------


def claim(root: Place, made_from: dict[str, Any]) -> None:
    """Start a store made with these settings, or go on with one made with the same.

    Raises:
        InputError: the folder holds a store made with others; the message names the first field.
    """
    data = to_json(made_from)
    held = made_from if root.create(SETTINGS, data) else from_json(root.read(SETTINGS))
    if not isinstance(held, dict):  # empty or cut short
        root.replace(SETTINGS, data)
        held = made_from
    was, now = _fields(held), _fields(made_from)
    for field in sorted({*was, *now}):
        if was.get(field) != now.get(field):
            raise InputError(
                f"the store {root} was made with {field} = {was.get(field)}; the recipe has "
                f"{now.get(field)}. Choose another run directory, or remove this one"
            )


def _fields(made_from: dict[str, Any]) -> dict[str, Any]:
    """Settings by their full names: `features.scales`, not all of `features`."""
    fields: dict[str, Any] = {}
    for name, value in made_from.items():
        inner = value if isinstance(value, dict) else {}
        fields |= {f"{name}.{key}": each for key, each in inner.items()} or {name: value}
    return fields


def committed(root: Place) -> set[str]:
    """Return the ids of the shards that have a record: one listing, and no record is read."""
    return {name.removesuffix(".json") for name in _records(root)}


def commit_times(root: Place) -> list[float]:
    """Return when each record was made, in seconds since 1970, oldest first."""
    return sorted(listed for listed in _records(root).values())


def _records(root: Place) -> dict[str, float]:
    listed = root.listing(RECORDS)
    return {
        name: each.modified_s
        for name, each in listed.items()
        if each.bytes and name.endswith(".json")
    }


# --- the manifest --------------------------------------------------------------------------------


def finish(root: Place, shard_ids: Sequence[str]) -> Totals:
    """Write the manifest of a store whose shards are all committed, and return its sums.

    Raises:
        InputError: a shard has no commit record, or lacks a file that its record names.
    """
    held = {folder: root.listing(folder) for folder in (SHARDS, MAPS)}
    entries, missing, broken, present = [], [], [], committed(root)
    torn: list[str] = []
    for shard_id, entry in zip(shard_ids, read_entries(root, shard_ids), strict=True):
        if entry is None:
            (torn if shard_id in present else missing).append(shard_id)
        elif lacking(entry, held):
            broken.append(shard_id)
        else:
            entries.append(entry)
    for ids, problem, way_out in (
        (missing, "are not committed", "run the extraction again to finish them"),
        (torn, "have records that cannot be read", f"run spp fsck {root}, then the recipe"),
        (broken, "lack files that their records name", f"run spp fsck {root}, then the recipe"),
    ):
        if ids:
            raise InputError(
                f"{len(ids)} of {len(shard_ids)} shards of {root} {problem}, such as "
                f"{ids[0]}; {way_out}"
            )
    return write_manifest(root, entries)


def read_entries(root: Place, shard_ids: Collection[str]) -> Iterator[ShardEntry | None]:
    """Yield what the manifest will say of each shard; None where its record is absent or torn."""
    # Records of 100,000 shards have the ids of all images: each is forgotten when it is summed up.
    return root.each(lambda shard_id: _entry(root.read(record_name(shard_id)), shard_id), shard_ids)


def _entry(data: bytes | None, shard_id: str) -> ShardEntry | None:
    record = parse_record(from_json(data))
    if record is None or data is None or record.shard_id != shard_id:
        return None
    return entry_of(record, data)


def lacking(entry: ShardEntry, held: Mapping[str, Mapping[str, Listed]]) -> str | None:
    """Return the first of a shard's data files that is not there with its size, and how it is."""
    for folder, written in entry.files.items():
        name = entry.name(folder)
        listed = held[folder].get(name.rpartition("/")[2])
        if listed is None:
            return f"{name} is missing"
        if listed.bytes != written.bytes:
            return f"{name} has {listed.bytes:,} bytes, its record says {written.bytes:,}"
    return None


def write_manifest(root: Place, entries: list[ShardEntry]) -> Totals:
    """Write the manifest of these shards."""
    manifest = Manifest(entries, read_tables(root), totals_of(entries))
    root.settle(RECORDS)  # of an attempt that was killed between linking its record and this
    root.replace(TABLES_RECORD, tables_bytes(manifest.tables))
    root.replace(MANIFEST, manifest_bytes(manifest))
    return manifest.totals


def read_tables(root: Place) -> dict[str, TableEntry]:
    """Return what the manifest will say of the settings and labels that are there."""
    listed, names = root.listing(""), (SETTINGS, *TABLES)
    digests = {name: root.digest(name) for name in names if name in listed}
    return {n: TableEntry(listed[n].bytes, held) for n, held in digests.items() if held is not None}


def read_manifest(root: Place) -> Manifest:
    """Return what the manifest says.

    Raises:
        InputError: there is no store here, it is not finished, or another version made it.
    """
    data = root.read(MANIFEST)
    tables = parse_tables(root.read(TABLES_RECORD))
    manifest = None if data is None else parse_manifest(data, tables)
    if manifest is not None:
        return manifest
    made = format_of(data)
    if made not in (FORMAT, None):
        raise InputError(
            f"{root} was made with format {made}, and this version reads {FORMAT}: run its "
            "recipe again, which makes a store beside it"
        )
    if root.read(SETTINGS) is None:
        raise InputError(f"{root} is not a store: it has no {MANIFEST}")
    raise InputError(f"{root} is not finished: run its recipe again")


def readable_manifest(root: Place) -> Manifest | None:
    """Return the manifest if every line of it can be read."""
    try:
        manifest = read_manifest(root)
        return Manifest(list(manifest.shards), manifest.tables, manifest.totals)
    except InputError:
        return None


def table_lacking(manifest: Manifest, name: str, held: Mapping[str, Listed]) -> str | None:
    """Return how a table is not there with its size."""
    written, listed = manifest.tables.get(name), held.get(name)
    if listed is None or written is None:
        return f"{name} is missing"
    if listed.bytes != written.bytes:
        return f"{name} has {listed.bytes:,} bytes, the manifest says {written.bytes:,}"
    return None


def sound(root: Place) -> str | None:
    """Return what is wrong with a finished store as far as listings tell, or None.

    It reads the manifest and lists three folders: enough to notice what was removed, cut short or
    never finished, before a job takes the store for done. What it says is half a sentence about
    `root`. Every byte is read by `verify`.
    """
    try:
        manifest = read_manifest(root)
        return _unsound(root, manifest)
    except InputError as error:
        return str(error)


def _unsound(root: Place, manifest: Manifest) -> str | None:
    held = {folder: root.listing(folder) for folder in ("", SHARDS, MAPS, RECORDS)}
    if not manifest.tables:
        return f"{root}/{TABLES_RECORD} {UNREADABLE}"
    for name in (SETTINGS, *TABLES):
        if problem := table_lacking(manifest, name, held[""]):
            return f"{root}/{problem}"
    for entry in manifest.shards:
        if problem := lacking(entry, held):
            return f"{root}/{problem}"
        listed = held[RECORDS].get(f"{entry.shard_id}.json")
        if listed is None or not listed.bytes:
            return f"{root}/{record_name(entry.shard_id)} is {'empty' if listed else 'missing'}"
    return None
