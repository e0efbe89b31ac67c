"""A finished store as far as listings tell: whether it is whole, and what a run does if it is not.

Every byte is read by `verification` and `repair`.
"""

from collections.abc import Sequence

from pipeline.errors import InputError
from pipeline.store.entries import Manifest, ShardEntry, totals_of
from pipeline.store.manifest import (
    MANIFEST,
    SETTINGS,
    TABLES,
    TABLES_RECORD,
    UNREADABLE,
    committed,
    lacking,
    read_entries,
    read_manifest,
    readable_manifest,
    table_lacking,
)
from pipeline.store.place import Place
from pipeline.store.records import RECORDS, record_name
from pipeline.store.repair import mend_shard
from pipeline.store.verification import OTHER_SUMS, Listings, listings


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
    held = listings(root)
    if not manifest.tables:
        return f"{root}/{TABLES_RECORD} {UNREADABLE}"
    for name in (SETTINGS, *TABLES):
        if problem := table_lacking(manifest, name, held[""]):
            return f"{root}/{problem}"
    for entry in manifest.shards:
        if problem := lacking(entry, held):
            return f"{root}/{problem}"
        if problem := _record_lacking(entry, held):
            return f"{root}/{problem}"
    if manifest.totals != totals_of(manifest.shards):
        return f"{root}/{MANIFEST} {OTHER_SUMS}"
    return None


def _record_lacking(entry: ShardEntry, held: Listings) -> str | None:
    listed = held[RECORDS].get(f"{entry.shard_id}.json")
    if listed is None or not listed.bytes:
        return f"{record_name(entry.shard_id)} is {'empty' if listed else 'missing'}"
    return None


def reopen(root: Place) -> list[str]:
    """Let a run make again what a finished store has lost; return what was done, as `fsck`.

    Only shards of which a listing tells that a file is missing, or has another size, are read, for
    other runs may be at work on the store, or read it.
    """
    # Most runs that go on find no manifest, and listings of 100,000 shards are 100 MB.
    if MANIFEST not in root.listing("") or sound(root) is None:
        return []
    held = listings(root)
    manifest = readable_manifest(root)
    entries = read_entries(root, committed(root)) if manifest is None else manifest.shards
    lost = [
        entry.shard_id
        for entry in entries
        if entry is not None and (lacking(entry, held) or _record_lacking(entry, held))
    ]
    said = _mended(root, held, lost)
    root.remove(MANIFEST)  # the run writes it, and labels that are damaged, again
    return said


def remake(root: Place, shard_ids: Sequence[str]) -> list[str]:
    """Mend the records of some shards, or drop them for a run to make the shards again.

    Returns:
        What was done, as of `fsck`; nothing of shards that are whole.
    """
    return _mended(root, listings(root), shard_ids)


def _mended(root: Place, held: Listings, shard_ids: Sequence[str]) -> list[str]:
    said: list[str] = []
    # No manifest is asked: who has made a shard again meanwhile may have made other bytes.
    for mended in root.each(lambda shard_id: mend_shard(root, held, shard_id, {}), shard_ids):
        said.extend(mended.said)
    return said
