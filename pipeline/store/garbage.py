"""`spp gc`: what attempts have left behind that no reader sees, and no attempt can still need."""

import re
import time
from dataclasses import dataclass
from functools import partial

from pipeline.errors import InputError
from pipeline.store.entries import Manifest
from pipeline.store.manifest import (
    MANIFEST,
    SETTINGS,
    TABLES,
    TABLES_RECORD,
    readable_manifest,
)
from pipeline.store.place import Place
from pipeline.store.records import MAPS, RECORDS, SHARDS, read_record, record_name, shard_of
from pipeline.store.verification import Listings, require_listings

# An attempt writes its files within minutes; a machine that slept over night may still go on.
KEPT_S = 24 * 3600.0
_ASIDE = re.compile(r".+\.tmp\.[0-9a-f]{12}")


@dataclass(frozen=True)
class Garbage:
    """A file that nothing names, or what has arrived of one."""

    name: str
    bytes: int
    why: str


def gc(root: Place, remove: bool = False, older_than_s: int | float = KEPT_S) -> list[Garbage]:
    """Return what no manifest names, or, of a store that is not finished, no record.

    On S3 also uploads that never ended: who was killed leaves their parts, which are billed. Only
    files that a store writes are looked at, whatever else lies beside them.

    Args:
        root: the store.
        remove: and remove them; otherwise they are only listed. Then those are returned that were
            removed: an attempt may have come back to one meanwhile.
        older_than_s: what is younger is left in peace: an attempt may be at work on it.

    Raises:
        InputError: there is no store, or its manifest is damaged.
    """
    # Files before records: what is committed in between is named when it is looked for.
    held = require_listings(root)
    manifest = readable_manifest(root)
    if manifest is None and MANIFEST in held[""]:
        raise InputError(
            f"{root}/{MANIFEST} cannot be read, and tells what is no garbage: run spp fsck first"
        )
    before_s = time.time() - older_than_s
    names = _named(root, manifest, held)
    found = []
    for folder, files in held.items():
        for file, listed in files.items():
            name = f"{folder}/{file}" if folder else file
            why = _why(folder, file, manifest is not None)
            if why is not None and name not in names and listed.modified_s <= before_s:
                found.append(Garbage(name, listed.bytes, why))
    # Records first: none may name a file that is gone.
    found.sort(key=lambda each: (not each.name.startswith(RECORDS), each.name))
    uploads = [each for each in root.uploads() if _is_ours(each.name) and each.begun_s <= before_s]
    if remove:
        found = [each for each in found if _removed(root, each.name, before_s)]
        for upload in uploads:
            root.abort(upload)
    # Whatever they were for, no reader can see them.
    why = "an upload in parts that never ended"
    return [*found, *(Garbage(each.name, each.bytes, why) for each in uploads)]


def _is_ours(name: str) -> bool:
    """Whether a store writes a file of this name."""
    folder, _, file = name.rpartition("/")
    if folder in (SHARDS, MAPS):
        return shard_of(file) is not None
    return name in (SETTINGS, MANIFEST, TABLES_RECORD, *TABLES) or folder == RECORDS


def _named(root: Place, manifest: Manifest | None, held: Listings) -> set[str]:
    """Return the files that readers may look for."""
    if manifest is not None:
        ids = {record_name(entry.shard_id) for entry in manifest.shards}
        return ids | {entry.name(folder) for entry in manifest.shards for folder in entry.files}
    ids = [file.removesuffix(".json") for file in root.listing(RECORDS) if file.endswith(".json")]
    names = {record_name(shard_id) for shard_id in ids}
    for shard_id, record in zip(ids, root.each(partial(read_record, root), ids), strict=True):
        if record is not None:
            names |= {record.name(folder) for folder in record.files}
        else:  # `fsck` can rebuild it from what lies there
            names |= {
                f"{folder}/{file}"
                for folder in (SHARDS, MAPS)
                for file in held[folder]
                if (shard_of(file) or ("",))[0] == shard_id
            }
    return names


def _why(folder: str, file: str, finished: bool) -> str | None:
    """Return why a file that nothing names may go; None where it is none of ours."""
    if _ASIDE.fullmatch(file):
        return "left by an attempt that was killed"
    if folder in (SHARDS, MAPS) and shard_of(file):
        return "written by an attempt that was not committed"
    if folder == RECORDS and file.endswith(".json") and finished:
        return "a record of a shard that the store no longer has"
    return None


def _removed(root: Place, name: str, before_s: float) -> bool:
    """Remove a file and return True, unless an attempt has come back to it since it was listed.

    An attempt that makes the same bytes brings them under the same name. It creates its record
    after that, and then looks whether they are there; here they are removed, and then it is looked
    whether there is a record. So whichever comes first, one of the two sees the other.
    """
    if _naming(root, name) is not None:
        return False
    held = root.look(name)
    if held is None or held.modified_s > before_s:
        return False
    root.remove(name)
    shard_id = _naming(root, name)
    if shard_id is not None and root.look(name) is None:
        root.remove(record_name(shard_id))  # the next run makes the shard again
    return True


def _naming(root: Place, name: str) -> str | None:
    """Return the shard whose record names this data file."""
    folder, _, file = name.rpartition("/")
    shard = shard_of(file)
    if folder not in (SHARDS, MAPS) or shard is None:
        return None
    record = read_record(root, shard[0])
    named = record is not None and folder in record.files and record.name(folder) == name
    return shard[0] if named else None
