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
    require_same_making,
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


class DamagedShardsError(InputError):
    """Shards have records that cannot count: `remake` mends them."""

    def __init__(self, text: str, shard_ids: Sequence[str]) -> None:
        super().__init__(text)
        self.shard_ids = shard_ids


def finish(
    root: Place, shard_ids: Sequence[str], made_from: str | None = None, images: int | None = None
) -> Totals:
    """Write the manifest of a store whose shards are all committed, and return its sums.

    Args:
        root: the store.
        shard_ids: all that belong to it.
        made_from: what their records must say; None: whatever they say.
        images: how many there are, whether they could be read or not; None: any number.

    Raises:
        DamagedShardsError: a record cannot be read, or a file that it names is not there.
        InputError: a shard has no commit record, or was made from something else; or images are
            missing or too many.
    """
    entries = _whole(root, shard_ids, made_from)
    totals = totals_of(entries)
    if images is not None and totals.images_in != images:
        raise InputError(
            f"the {len(entries)} shards of {root} have {totals.images_in:,} images, and there are "
            f"{images:,}: choose another run directory, or remove this store"
        )
    return write_manifest(root, entries)


def _whole(root: Place, shard_ids: Sequence[str], made_from: str | None) -> list[ShardEntry]:
    """Return what the manifest will say of each shard; raise where one cannot count."""
    held = {folder: root.listing(folder) for folder in (SHARDS, MAPS)}
    entries: list[ShardEntry] = []
    missing, torn, broken, present = [], [], [], committed(root)
    found = read_entries(root, shard_ids, made_from)
    for shard_id, entry in zip(shard_ids, found, strict=True):
        if entry is None:
            (torn if shard_id in present else missing).append(shard_id)
        elif lacking(entry, held):
            broken.append(shard_id)
        else:
            entries.append(entry)
    of = f"of {len(shard_ids)} shards of {root}"
    if missing:
        raise InputError(
            f"{len(missing)} {of} are not committed, such as {missing[0]}; run the extraction "
            "again to finish them"
        )
    for ids, problem in (
        (torn, "have records that cannot be read"),
        (broken, "lack files that their records name"),
    ):
        if ids:
            text = f"{len(ids)} {of} {problem}, such as {ids[0]}; run the extraction again"
            raise DamagedShardsError(text, [*torn, *broken])
    return entries


def read_entries(
    root: Place, shard_ids: Collection[str], made_from: str | None = None
) -> Iterator[ShardEntry | None]:
    """Yield what the manifest will say of each shard; None where its record is absent or torn.

    Raises:
        InputError: a shard was made from something else than `made_from`, if that is given.
    """

    def entry(shard_id: str) -> ShardEntry | None:
        data = root.read(record_name(shard_id))
        record = parse_record(from_json(data))
        if record is None or data is None or record.shard_id != shard_id:
            return None
        if made_from is not None:
            require_same_making(root, record, made_from)
        return entry_of(record, data)

    # Records of 100,000 shards have the ids of all images: each is forgotten when it is summed up.
    return root.each(entry, shard_ids)


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
