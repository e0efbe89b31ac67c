"""What a store holds: the settings that made it, its manifest, and the proof that both are true.

store.json      what made it: network, layer, scales, pyramid, windows; refused when it differs
shards/         rows                          records/   one commit record a shard
maps/           feature maps, in a store of maps
images.parquet  every image that went in      objects.parquet   the labels, apart from the rows
manifest.json   written last; readers trust nothing else
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.store.files import file_sha256, read_json, write_json
from pipeline.store.records import (
    FORMAT,
    MAPS,
    SHARDS,
    FileRecord,
    ShardRecord,
    file_path,
    maps_path,
    parse_record,
    read_record,
    shard_path,
)

SETTINGS, MANIFEST = "store.json", "manifest.json"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a store."""

    shard_id: str
    problem: str


def claim(root: Path, made_from: dict[str, Any]) -> None:
    """Start a store made with these settings, or go on with one made with the same.

    Raises:
        InputError: the folder holds a store made with others; the message names the first field.
    """
    held = read_json(root / SETTINGS)
    if held is None:
        write_json(root / SETTINGS, made_from)
    was, now = _fields(held or made_from), _fields(made_from)
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


def finish(root: Path, shard_ids: Sequence[str]) -> dict[str, Any]:
    """Write the manifest of a store whose shards are all committed, and return it.

    Raises:
        InputError: a shard has no commit record.
    """
    records = [(shard_id, read_record(root, shard_id)) for shard_id in shard_ids]
    missing = [shard_id for shard_id, record in records if record is None]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(shard_ids)} shards of {root} are not committed, such as "
            f"{missing[0]}; run the extraction again to finish them"
        )
    done = [record for _, record in records if record is not None]
    manifest = {
        "shards": [asdict(record) for record in done],
        "rows": sum(record.rows for record in done),
        "bytes": sum(record.bytes for record in done),
        "images_in": sum(len(r.images) + len(r.quarantined) for r in done),
        "images_done": sum(len(record.images) for record in done),
        "images_quarantined": sum(len(record.quarantined) for record in done),
    }
    write_json(root / MANIFEST, manifest)
    return manifest


def read_manifest(root: Path) -> list[ShardRecord]:
    """Return the records that the manifest names, in order.

    Raises:
        InputError: there is no store here, it is not finished, or another version made it.
    """
    content = read_json(root / MANIFEST)
    shards = content.get("shards") if isinstance(content, dict) else None
    records = [parse_record(item) for item in shards or []]
    if shards is None or None in records:
        formats = {item.get("format") for item in shards or [] if isinstance(item, dict)}
        if formats - {FORMAT, None}:
            raise InputError(
                f"{root} was made with format {', '.join(map(str, formats - {FORMAT}))}, and this "
                f"version reads {FORMAT}: run its recipe again, which makes a store beside it"
            )
        state = "is not finished: run its recipe again" if (root / SETTINGS).is_file() else None
        raise InputError(f"{root} {state or 'is not a store: it has no manifest.json'}")
    return [record for record in records if record is not None]


def verify(root: Path) -> list[Fault]:
    """Return everything that is wrong with the store's files; an empty list is the proof.

    Every byte is read: a missing, truncated, changed, foreign or doubled shard is named.
    """
    records = read_manifest(root)
    faults = [fault for record in records for fault in _shard_faults(root, record)]
    for folder in (SHARDS, MAPS):
        named = {record.shard_id for record in records if folder in record.files}
        for file in sorted((root / folder).glob("*")):
            if file.name.removesuffix(".parquet") not in named:
                faults.append(Fault(file.name, "is not named by the manifest; remove the file"))
    return [*faults, *_image_faults(root, records)]


def _shard_faults(root: Path, record: ShardRecord) -> Iterator[Fault]:
    broken = False
    for folder, written in record.files.items():
        problem = _file_fault(file_path(root, folder, record.shard_id), written)
        if problem is not None:
            broken = True
            what = "" if folder == SHARDS else "has maps in a file that "
            yield Fault(record.shard_id, what + problem)
    if not broken and not _rows_agree(shard_path(root, record.shard_id), record):
        yield Fault(record.shard_id, "holds other images, or rows twice, than its record says")
    elif not broken and MAPS in record.files and (problem := _maps_fault(root, record)):
        yield Fault(record.shard_id, problem)
    if read_record(root, record.shard_id) != record:
        yield Fault(record.shard_id, "has a commit record that differs from the manifest")


def _file_fault(path: Path, written: FileRecord) -> str | None:
    """What is wrong with the bytes of one file."""
    if not path.is_file():
        return "is missing; remove its record and the job's done.json, then run the recipe again"
    size = path.stat().st_size
    if size != written.bytes:
        return f"has {size} bytes, its record says {written.bytes}"
    if file_sha256(path) != written.sha256:
        return "has other bytes than were written: its sha256 differs"
    return None


def _rows_agree(path: Path, record: ShardRecord) -> bool:
    keys = pq.read_table(path, columns=["image_id", "window_id"], memory_map=True)
    counted = keys.group_by("image_id").aggregate([("window_id", "count_distinct")])
    columns = (counted["image_id"], counted["window_id_count_distinct"])
    names, distinct = (column.to_pylist() for column in columns)
    held = {image_id: rows for image_id, rows in record.images.items() if rows}
    counts = (record.rows, sum(held.values()))
    return dict(zip(names, distinct, strict=True)) == held and counts == (len(keys), len(keys))


def _maps_fault(root: Path, record: ShardRecord) -> str | None:
    """Whether each window's image has one map of the window's scale, and no other image has any."""
    held = _images_and_scales(maps_path(root, record.shard_id))
    needed = _images_and_scales(shard_path(root, record.shard_id))
    if len(set(held)) != len(held) or len(held) != record.files[MAPS].rows:
        return "holds a map twice, or fewer than its record says"
    if missing := sorted(set(needed) - set(held)):
        return f"has windows of image {missing[0][0]} at scale {missing[0][1]}, but no such map"
    if foreign := sorted(image_id for image_id, _ in held if image_id not in record.images):
        return f"holds a map of image {foreign[0]}, which its record does not name"
    return None


def _images_and_scales(path: Path) -> list[tuple[str, int]]:
    table = pq.read_table(path, columns=["image_id", "scale_px"], memory_map=True)
    if "window_id" in pq.read_schema(path).names:
        table = table.group_by(["image_id", "scale_px"]).aggregate([])
    return list(zip(table["image_id"].to_pylist(), table["scale_px"].to_pylist(), strict=True))


def _image_faults(root: Path, records: Sequence[ShardRecord]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for record in records:
        for image_id in [*record.images, *record.quarantined]:
            if image_id in seen:
                problem = f"holds image {image_id}, which is in {seen[image_id]} too"
                yield Fault(record.shard_id, problem)
            seen[image_id] = record.shard_id
    listed = root / "images.parquet"
    for table in (listed, root / "objects.parquet"):
        if not table.is_file():
            yield Fault(table.name, "is missing; run the extraction again")
    if not listed.is_file():
        return
    try:
        image_ids = pq.read_table(listed, columns=["image_id"])["image_id"].to_pylist()
    except (pa.ArrowException, OSError) as error:
        yield Fault(listed.name, f"is damaged: {error}")
        return
    for image_id in image_ids:
        if image_id not in seen:
            yield Fault(listed.name, f"lists image {image_id}, which is in no shard")
