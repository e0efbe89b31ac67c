"""The proof that a store is whole: every byte is read and held against what was committed.

And the proof that it can be computed with: whoever committed it may have meant harm.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.errors import InputError
from pipeline.store.coverage import IMAGES, Cure, Fault, by_first_image, image_faults
from pipeline.store.entries import Manifest, ShardEntry, entry_of, totals_of
from pipeline.store.manifest import (
    MANIFEST,
    SETTINGS,
    TABLES,
    TABLES_RECORD,
    UNREADABLE,
    lacking,
    read_manifest,
    table_lacking,
)
from pipeline.store.map_spec import read_map_spec
from pipeline.store.place import Listed, Place, open_parquet
from pipeline.store.records import (
    MAPS,
    RECORDS,
    SHARDS,
    ShardRecord,
    from_json,
    parse_record,
    record_name,
)
from pipeline.store.scan import maps_of, open_rows
from pipeline.store.schema import BOX_COLUMNS, all_finite, box_array, read_spec, vectors

Listings = Mapping[str, Mapping[str, Listed]]


def verify(root: Place, images: bool = False) -> list[Fault]:
    """Return everything that is wrong with the store's files; an empty list is the proof.

    Every byte is read: a missing, truncated, changed, foreign or doubled shard is named, and so is
    a record, a table of labels or the settings that are not what the manifest says. So are windows,
    vectors and maps with numbers that are not finite.

    Args:
        root: the store.
        images: also read the image files again, and tell which are missing or have changed.

    Raises:
        InputError: there is no finished store.
    """
    manifest = read_manifest(root)
    held = listings(root)
    faults = [
        Fault(name, problem)
        for name in (SETTINGS, *TABLES)
        if manifest.tables and (problem := table_fault(root, held, manifest, name))
    ]
    if not manifest.tables:
        faults.append(Fault(TABLES_RECORD, UNREADABLE))
    damaged = {fault.shard_id for fault in faults}
    entries = list(manifest.shards)
    if manifest.totals != totals_of(entries):
        faults.append(Fault(MANIFEST, OTHER_SUMS))
    order = by_first_image(entries)

    def records() -> Iterator[ShardRecord | None]:
        for checked in root.each(partial(_check, root, held), order, hashes=True):
            faults.extend(checked.faults)
            yield checked.record

    for fault in image_faults(root, order, records(), IMAGES not in damaged, images):
        faults.append(fault)
    named = {
        SHARDS: {entry.name(SHARDS) for entry in manifest.shards},
        MAPS: {entry.name(MAPS) for entry in manifest.shards if MAPS in entry.files},
        RECORDS: {record_name(entry.shard_id) for entry in manifest.shards},
    }
    for folder, names in named.items():
        for name in held[folder]:
            if f"{folder}/{name}" not in names:
                faults.append(Fault(name, NOT_NAMED, Cure.gc))
    return faults


OTHER_SUMS = "has other sums than its shards give"
NOT_NAMED = "is not named by the manifest: spp gc removes what attempts left"


def listings(root: Place) -> Listings:
    """Return what lies in the folders of a store."""
    return {folder: root.listing(folder) for folder in ("", SHARDS, MAPS, RECORDS)}


def require_listings(root: Place) -> Listings:
    """Return what lies in the folders of a store.

    Raises:
        InputError: nothing does.
    """
    held = listings(root)
    if not any(held.values()):
        raise InputError(f"{root} is not a store: there is nothing in it")
    return held


def table_fault(root: Place, held: Listings, manifest: Manifest, name: str) -> str | None:
    """Return what is wrong with the settings or a table of labels."""
    if problem := table_lacking(manifest, name, held[""]):
        return problem.removeprefix(f"{name} ")
    return None if root.digest(name) == manifest.tables[name].sha256 else OTHER_BYTES


OTHER_BYTES = "has other bytes than were written: its sha256 differs"


# --- shard by shard ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Checked:
    faults: list[Fault]
    record: ShardRecord | None


def _check(root: Place, held: Listings, entry: ShardEntry) -> _Checked:
    data = root.read(record_name(entry.shard_id))
    record = parse_record(from_json(data))
    problems = []
    if record is None or data is None:
        problems.append("has no commit record, or one that cannot be read")
    elif entry_of(record, data) != entry:
        problems.append("has a commit record that differs from the manifest")
        record = None
    problem = data_fault(root, held, entry)
    if problem is None and record is not None:
        problem = content_fault(root, record)
    if problem is not None:
        problems.insert(0, problem)
    return _Checked([Fault(entry.shard_id, each) for each in problems], record)


def data_fault(root: Place, held: Listings, entry: ShardEntry) -> str | None:
    """Return what is wrong with the bytes of a shard's data files."""
    if problem := lacking(entry, held):
        return problem
    for folder, written in entry.files.items():
        if root.digest(entry.name(folder)) != written.sha256:
            return f"{entry.name(folder)} {OTHER_BYTES}"
    return None


def content_fault(root: Place, record: ShardRecord) -> str | None:
    """Return in what the rows and maps of a shard differ from what its record and its kind say."""
    try:
        if not _rows_agree(root, record):
            return "holds other images, or rows twice or in another order, than its record says"
        fault = _maps_fault(root, record) if MAPS in record.files else None
        return fault or _numbers_fault(root, record)
    except InputError as error:
        return str(error)


def _rows_agree(root: Place, record: ShardRecord) -> bool:
    with open_rows(root, record) as file:
        keys = file.read(["image_id", "window_id"])
    counted = keys.group_by("image_id").aggregate([("window_id", "count_distinct")])
    columns = (counted["image_id"], counted["window_id_count_distinct"])
    names, distinct = (column.to_pylist() for column in columns)
    held = {image_id: rows for image_id, rows in record.images.items() if rows}
    counts = (record.rows, sum(held.values()))
    agree = dict(zip(names, distinct, strict=True)) == held
    in_order = keys.equals(keys.sort_by([("image_id", "ascending"), ("window_id", "ascending")]))
    return agree and in_order and counts == (len(keys), len(keys))


def _maps_fault(root: Place, record: ShardRecord) -> str | None:
    """Whether each window's image has one map of the window's scale, and no other image has any."""
    held, needed = (_images_and_scales(root, record, folder) for folder in (MAPS, SHARDS))
    if len(set(held)) != len(held) or len(held) != record.files[MAPS].rows:
        return "holds a map twice, or fewer than its record says"
    if missing := sorted(set(needed) - set(held)):
        return f"has windows of image {missing[0][0]} at scale {missing[0][1]}, but no such map"
    if foreign := sorted(image_id for image_id, _ in held if image_id not in record.images):
        return f"holds a map of image {foreign[0]}, which its record does not name"
    return None


def _numbers_fault(root: Place, record: ShardRecord) -> str | None:
    """Return whether boxes, vectors or maps cannot be computed with.

    Digests do not tell: whoever wrote a store may have written NaN.
    """
    with open_rows(root, record) as file:
        name, spec = record.name(SHARDS), read_map_spec(file.schema_arrow)
        vector = read_spec(file.schema_arrow, name, pooled=spec is not None)
        if (spec is None) == (MAPS in record.files):
            return "has maps by its record, and vectors by its rows, or the other way round"
        columns = [*BOX_COLUMNS] if spec else [*BOX_COLUMNS, "vector"]
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns)
            if not np.isfinite(box_array(rows)).all():
                return "has windows with corners that are not finite"
            if spec is None and not all_finite(vectors(rows)):
                return "has vectors with numbers that are not finite"
    if spec is not None:
        with maps_of(root, record.name(MAPS), spec, vector) as maps:
            maps.check()
    return None


def _images_and_scales(root: Place, record: ShardRecord, folder: str) -> list[tuple[str, int]]:
    with _open(root, record, folder) as file:
        table = file.read(["image_id", "scale_px"])
    if folder == SHARDS:
        table = table.group_by(["image_id", "scale_px"]).aggregate([])
    return list(zip(table["image_id"].to_pylist(), table["scale_px"].to_pylist(), strict=True))


def _open(root: Place, record: ShardRecord, folder: str):
    return open_parquet(root, record.name(folder), record.files[folder].bytes)
