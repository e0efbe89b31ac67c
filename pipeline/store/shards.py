"""Writing one shard so that it is either committed whole or not there (HOUSE §5).

Each file is written aside under a name of this attempt's own, synced, checked and renamed; then
comes the one commit record. A shard without its record does not exist for any reader.
"""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from pipeline.store.files import roll_back, write_json
from pipeline.store.maps import MapSpec
from pipeline.store.records import MAPS, SHARDS, ShardRecord, file_path, record_path
from pipeline.store.schema import read_spec
from pipeline.store.writing import ParquetPart


class ShardWriter:
    """Write rows, then `commit`; leaving the `with` block without a commit leaves nothing.

    Row groups are cut at `row_group_bytes` of vectors, so that readers fetch and keep little; in a
    store of maps they are cut where the vectors, which are pooled by the reader, would reach it.
    """

    def __init__(
        self,
        root: Path,
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
        self._parts = {SHARDS: ParquetPart(file_path(root, SHARDS, shard_id), schema)}
        if maps is not None:
            rows_schema, maps_schema = maps.schemas(read_spec(schema, shard_id))
            self._pooled_bytes = read_spec(schema).row_bytes
            self._parts = {
                SHARDS: ParquetPart(file_path(root, SHARDS, shard_id), rows_schema),
                MAPS: ParquetPart(file_path(root, MAPS, shard_id), maps_schema),
            }

    def __enter__(self) -> "ShardWriter":
        self._stack = ExitStack()
        for part in self._parts.values():
            self._stack.enter_context(part)
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
        """Close, check, rename and record the shard.

        Raises:
            OSError: what lies on the disk is not what was written.
        """
        self._flush()
        files = {name: part.check() for name, part in self._parts.items()}
        self._stack.close()
        record = ShardRecord(
            shard_id=self._shard_id,
            made_from=made_from,
            files=files,
            images=images,
            quarantined=quarantined,
            input_sha256=input_sha256,
        )
        write_json(record_path(self._root, self._shard_id), asdict(record))
        return record

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        roll_back(self._stack, error)
