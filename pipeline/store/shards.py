"""Writing one shard so that it is committed exactly once, whoever tries and whatever dies.

| an attempt ends after | what is there | what the next attempt does |
|---|---|---|
| writing rows | if it was killed, a temporary file | writes them |
| uploading a large file | if it was killed, parts that no listing shows: `gc` | uploads it anew |
| bringing maps, then rows | data files that no record names | the same; equal bytes are one file |
| creating the record | the shard, committed | leaves it as it is |

The record is created exclusively: of several attempts one wins, whatever their order. Who loses
goes by the record that is there: if it names other bytes, the loser removes its own files, and if
the same, both are right. So a zombie, which comes to its end long after its replacement, changes
nothing, and a request whose answer was lost is no different from one that came second. A record
that is empty or cut short is none, and is replaced. Two drivers share shards as attempts do; all
else they write (settings, labels, manifest) is whole or absent, and equal.

Power may fail at any point: what was brought or created is on the disk when the call returns, and
nothing is named before it is there.
"""

from contextlib import ExitStack

import pyarrow as pa

from pipeline.errors import SppError
from pipeline.store.files import roll_back
from pipeline.store.map_spec import MapSpec
from pipeline.store.place import Place
from pipeline.store.records import (
    MAPS,
    SHARDS,
    ShardRecord,
    footer_of,
    read_record,
    record_bytes,
    record_name,
    require_same_making,
)
from pipeline.store.schema import read_spec
from pipeline.store.writing import ParquetPart


class ShardWriter:
    """Write rows, then `commit`; leaving the `with` block without a commit leaves nothing.

    Row groups are cut at `row_group_bytes` of vectors, so that readers fetch and keep little; in a
    store of maps they are cut where the vectors, which are pooled by the reader, would reach it.
    """

    def __init__(
        self,
        root: Place,
        shard_id: str,
        schema: pa.Schema,
        row_group_bytes: int,
        maps: MapSpec | None = None,
    ) -> None:
        """Begin a shard.

        Args:
            root: the store.
            shard_id: names its files.
            schema: `VectorSpec.schema()`, for either kind of store.
            row_group_bytes: of vectors, stored or pooled.
            maps: what the feature maps look like; None where rows have their vectors.

        Raises:
            InputError: the maps give other vectors than `schema` says.
        """
        self._root, self._shard_id = root, shard_id
        self._row_group_bytes = row_group_bytes
        self._pooled_bytes: int | None = None
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        # Rows come last, for their footer names the maps.
        self._parts = {SHARDS: ParquetPart(root, f"{SHARDS}/{shard_id}", schema)}
        if maps is not None:
            rows_schema, maps_schema = maps.schemas(read_spec(schema, shard_id))
            self._pooled_bytes = read_spec(schema).row_bytes
            self._parts = {
                MAPS: ParquetPart(root, f"{MAPS}/{shard_id}", maps_schema),
                SHARDS: ParquetPart(root, f"{SHARDS}/{shard_id}", rows_schema),
            }

    def __enter__(self) -> "ShardWriter":
        with ExitStack() as stack:
            for part in self._parts.values():
                stack.enter_context(part)
            self._stack = stack.pop_all()
        return self

    def write(self, rows: pa.Table) -> None:
        """Add the rows of one or more whole images; without `vector` in a store of maps."""
        self._waiting.append(rows)
        pooled = self._pooled_bytes
        self._waiting_bytes += rows.nbytes if pooled is None else len(rows) * pooled
        if self._waiting_bytes >= self._row_group_bytes:
            self._flush()

    def write_maps(self, maps: pa.Table) -> None:
        """Add feature maps made by `maps_table`, in any order and before or after their rows."""
        # A group each: a reader unpacks the maps that it pools from, and no other.
        self._parts[MAPS].write(maps, group_rows=1)

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).unify_dictionaries()
            self._parts[SHARDS].write(table, group_rows=len(table))
            self._waiting, self._waiting_bytes = [], 0

    def commit(
        self,
        made_from: str,
        images: dict[str, int],
        quarantined: dict[str, str],
        input_sha256: str,
    ) -> ShardRecord:
        """Close, check, bring and record the shard.

        Returns:
            The record that counts: another attempt's, where that came first.

        Raises:
            OSError: what lies on the disk is not what was written.
            InputError: the shard is committed, and was made from something else.
        """
        self._flush()
        record = ShardRecord(self._shard_id, made_from, {}, images, quarantined, input_sha256)
        for folder, part in self._parts.items():
            if folder == SHARDS:
                part.note(footer_of(record))
            record.files[folder] = part.check()
        for folder, part in self._parts.items():
            part.bring(record.name(folder))
        self._stack.close()
        return commit_record(self._root, record)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        roll_back(self._stack, error)


def commit_record(root: Place, record: ShardRecord) -> ShardRecord:
    """Commit a shard whose data files lie in their places; return the record that counts.

    Raises:
        InputError: the shard is committed, and was made from something else.
        SppError: a data file is gone, and so is the record.
    """
    name, data = record_name(record.shard_id), record_bytes(record)
    if root.create(name, data):
        return _with_its_files(root, record)
    held = read_record(root, record.shard_id)
    if held is None:  # empty or cut short
        # Of two that do this at once the later one's record stands, and both their files do.
        root.replace(name, data)
        return _with_its_files(root, record)
    for folder in record.files:
        if held.files.get(folder) != record.files[folder]:
            root.remove(record.name(folder))
    require_same_making(root, held, record.made_from)
    return held


def _with_its_files(root: Place, record: ShardRecord) -> ShardRecord:
    """Take back the record just made if a file that it names is gone.

    A file that an older attempt left, of the same name, may have been garbage to `gc` when it was
    brought again: `gc` removes and then looks for a record, as here in the other order.
    """
    for folder, written in record.files.items():
        held = root.look(record.name(folder))
        if held is None or held.bytes != written.bytes:
            root.remove(record_name(record.shard_id))
            now = "is gone" if held is None else f"has {held.bytes:,} bytes now"
            raise SppError(
                f"{root}/{record.name(folder)}, written with {written.bytes:,} bytes, {now}; its "
                "shard is not committed. Let nothing else remove or change files of the store "
                "(spp gc with a low --older-than does), and run the same command again"
            )
    return record
