"""A store as a training by examples sees it: labels are marks, and drawn boxes are rows, too."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from pipeline.learning.labelling import Rows, Told
from pipeline.store.entries import ShardEntry
from pipeline.store.place import Place
from pipeline.store.reader import Store
from pipeline.store.records import ShardRecord, read_record
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, VectorSpec, vectors
from pipeline.store.shards import ShardWriter
from pipeline.teaching.locating import Located, Vector
from pipeline.teaching.marks import Mark

EXAMPLES = "examples"
"""Shard of the boxes that are no stored windows. A plan's shards have numbers."""
KEPT, MOST_KEPT = "marks", 2_000
"""Shard of all marks' vectors, and how many there may be: 14 kB each, with every version."""
SPLIT = "marked"


@dataclass(frozen=True)
class TaughtStore(Store):
    """A store whose objects of one class are those that a person marked."""

    class_: str = ""
    located: tuple[Located, ...] = ()
    labelled: bool = False
    """The store's own objects count, too."""
    drawn: Place | None = None
    """Where `write_examples` has put the vectors of drawn boxes."""

    @cached_property
    def shards(self) -> Sequence[ShardEntry | ShardRecord]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The store's, and that of the drawn boxes."""
        own = list(self.manifest.shards)
        return own if self.drawn is None else [*own, self.record(EXAMPLES)]

    def record(self, shard_id: str) -> ShardRecord:
        """Return one shard's commit record."""
        if shard_id == EXAMPLES and self.drawn is not None:
            held = read_record(self.drawn, shard_id)
            assert held is not None
            return held
        return super().record(shard_id)

    def home_of(self, shard_id: str) -> Store:
        """Return the store that has a shard's files."""
        if shard_id == EXAMPLES and self.drawn is not None:
            return examples_in(self.drawn, self.spec)
        return self

    def objects_of(self, shard_id: str) -> pa.Table:
        """Return what counts as an object of the class in one shard's images."""
        images = self.record(shard_id).images
        own = super().objects_of(shard_id) if self.labelled and shard_id != EXAMPLES else None
        marked = [
            {"image_id": mark.image_id, "class": self.class_, "difficult": False}
            | dict(zip(BOX_COLUMNS, mark.box, strict=True))
            for mark in (each.mark for each in self.located)
            if mark.yes and mark.image_id in images
        ]
        schema = pa.schema(
            [("image_id", pa.string()), ("class", pa.string()), ("difficult", pa.bool_())]
            + [(name, pa.float32()) for name in BOX_COLUMNS]
        )
        table = pa.Table.from_pylist(marked, schema=schema)
        return (
            table
            if own is None
            else pa.concat_tables([own.select(schema.names).cast(schema), table])
        )

    @property
    def told(self) -> Told | None:
        """Rows that were judged, by shard; None where labels alone count."""
        if not self.located:
            return None
        judged: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
        drawn = 0
        for each in self.located:
            if each.vector is None:
                judged[each.mark.yes].setdefault(each.shard_id, []).append(each.row)
            else:
                judged[each.mark.yes].setdefault(EXAMPLES, []).append(drawn)
                drawn += 1
        return Told(_sorted(judged[True]), _sorted(judged[False]))


def examples_in(root: Place, spec: VectorSpec) -> Store:
    """Return what reading the shard of drawn boxes needs to know; it has no manifest."""
    held = Store(root)
    vars(held)["schema"] = spec.schema()
    return held


def write_examples(root: Place, spec: VectorSpec, located: Sequence[Located]) -> bool:
    """Write the marks that have a vector of their own as a shard; return whether there are any.

    Rows are in the order of `located`, which has to be sorted by image.
    """
    own = [each for each in located if each.vector is not None]
    vectors = [each.vector for each in own if each.vector is not None]
    if own:
        _write(root, EXAMPLES, spec, own, np.stack(vectors))
    return bool(own)


def keep_examples(root: Place, store: Store, located: Sequence[Located]) -> None:
    """Keep the vectors of all marks, for trainings on other stores and without the network.

    Where there are very many, as a condition in SQL may select, only of those that no store has.
    """
    if not located or len(located) > MOST_KEPT:
        return
    held, first = Vectors(store), {entry.shard_id: k for k, entry in enumerate(store.shards)}
    out = np.empty((len(located), store.spec.length), store.spec.dtype)
    for place, each in enumerate(located):
        if each.vector is not None:
            out[place] = each.vector
        else:
            row = held.first[first[each.shard_id]] + each.row
            out[place] = held.take(np.array([row]))[0]
    _write(root, KEPT, store.spec, located, out)


def _write(
    root: Place,
    shard_id: str,
    spec: VectorSpec,
    located: Sequence[Located],
    vectors: Float[np.ndarray, "marks dim"],
) -> None:
    boxes = np.array([each.mark.box for each in located], np.float32)
    word = pa.dictionary(pa.int32(), pa.string())
    columns = {
        "image_id": pa.array([each.mark.image_id for each in located], pa.string()),
        "window_id": pa.array(range(len(located)), pa.int32()),
        **{name: pa.array(boxes[:, k].copy()) for k, name in enumerate(BOX_COLUMNS)},
        "scale_px": pa.array([each.scale_px for each in located], pa.int16()),
        "source": pa.array([SPLIT] * len(located)).cast(word),
        "split": pa.array([SPLIT] * len(located)).cast(word),
        "vector": spec.to_arrow(vectors),
    }
    counts = Counter(each.mark.image_id for each in located)
    with ShardWriter(root, shard_id, spec.schema(), 32_000_000) as writer:
        writer.write(pa.table(columns, schema=spec.schema()))
        writer.commit(SPLIT, dict(counts), {}, "")


def read_examples(root: Place, spec: VectorSpec) -> dict[Mark, tuple[Vector, int]]:
    """Return the vectors and scales that were put in a place, by mark."""
    held: dict[Mark, tuple[Vector, int]] = {}
    for shard_id in (EXAMPLES, KEPT):
        if read_record(root, shard_id) is None:
            continue
        for table in scan_shard(examples_in(root, spec), shard_id):
            rows = table.drop_columns("vector").to_pylist()
            for row, vector in zip(rows, vectors(table), strict=True):
                x_min, y_min, x_max, y_max = (float(row[name]) for name in BOX_COLUMNS)
                mark = Mark(row["image_id"], (x_min, y_min, x_max, y_max))
                held.setdefault(mark, (vector, row["scale_px"]))
    return held


def _sorted(rows: Mapping[str, list[int]]) -> dict[str, Rows]:
    return {shard_id: np.array(sorted(set(held)), np.int64) for shard_id, held in rows.items()}
