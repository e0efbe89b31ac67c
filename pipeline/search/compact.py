"""A compact copy of a store's vectors: a first pass over it, and the survivors are scored exactly.

The copy lies in the folder `compact` of its store, and is told apart by the digests of the shards
that it was made from: a store that has changed has none.

| file | |
|---|---|
| STORE.json | the record, written last: how it was made, and its recall |
| KEY-axes.safetensors | the projection, created once: who comes second takes the first one's |
| KEY-SHARD.arrow | codes, scales and lengths of a shard's rows, in batches; mapped to memory |

Codes name the digest of their projection: one that was lost and is made again may be another.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipeline import machine
from pipeline.errors import InputError
from pipeline.search.code_kernel import multiply
from pipeline.search.codes import Codes, read_codes
from pipeline.search.nearest import Best, Found, Metric, best_of, settle
from pipeline.search.projection import Projection, from_bytes
from pipeline.store.blocks import Query
from pipeline.store.identity import store_digest
from pipeline.store.place import REQUESTS
from pipeline.store.reader import Store
from pipeline.store.records import from_json, to_json
from pipeline.store.rows import MAPPED_SHARDS, Vectors
from pipeline.threads import share

FOLDER = "compact"
VERSION = 1  # of these files: who changes what they hold raises it
KEY_DIGITS = 16
# Rows that the first pass leaves: each costs the reading of its vector, as much as 28 rows' codes.
# One in a hundred, within these; and for each that is asked for so many.
SURVIVORS, ROWS_PER_SURVIVOR, SURVIVORS_PER_ROW = (1024, 4096), 100, 8


@dataclass(frozen=True)
class Recall:
    """What the first pass loses, measured when the copy was made."""

    recall: float
    """Share of the exact nearest that the copy finds, too; mean over queries."""
    least: float
    """The same of the worst query."""
    at: int
    """How many of them."""
    queries: int
    exact_s: float
    """Median seconds of a query over all vectors."""
    fast_s: float
    """Median seconds of a query over the copy, with the exact scores of the survivors."""


@dataclass(frozen=True)
class Record:
    """How a copy was made."""

    key: str
    numbers: int
    """Kept of each vector, a byte each."""
    seed: int
    bytes: int
    windows: Recall
    """Of the nearest windows."""
    hits: Recall
    """Of what `spp similar` shows, where overlapping windows count as one."""


def record_name(store: Store) -> str:
    """Return where the record of a copy lies."""
    return f"{FOLDER}/{key_of(store)}.json"


def key_of(store: Store, *made_with: object) -> str:
    """Return what tells the copies of these very vectors, made in such a way, from all others."""
    return sha256(to_json([VERSION, store_digest(store), *made_with])).hexdigest()[:KEY_DIGITS]


def axes_name(key: str) -> str:
    """Return where the projection lies."""
    return f"{FOLDER}/{key}-axes.safetensors"


def codes_name(key: str, shard_id: str) -> str:
    """Return where the codes of a shard lie."""
    return f"{FOLDER}/{key}-{shard_id}.arrow"


def read_record(store: Store) -> Record | None:
    """Return how the copy of these very vectors was made, or None where there is none."""
    content = from_json(store.root.read(record_name(store)))
    try:
        record = Record(**{**content, **{of: Recall(**content[of]) for of in ("windows", "hits")}})
    except (TypeError, KeyError):
        return None
    # It becomes part of names.
    return record if isinstance(record.key, str) and record.key.isalnum() else None


def record_bytes(record: Record) -> bytes:
    """Return a record as its file holds it."""
    return to_json(asdict(record))


class Compact:
    """The compact copy of a store. Safe in threads."""

    def __init__(self, store: Store, vectors: Vectors, key: str) -> None:
        self._store, self._vectors, self._key = store, vectors, key
        self._mapped: dict[int, list[Codes]] = {}

    @cached_property
    def projection(self) -> Projection:
        """How the codes were made."""
        name = axes_name(self._key)
        data = self._store.root.read(name)
        if data is None:
            raise InputError(f"{self._store.root}/{name} is missing: run spp index again")
        return from_bytes(data, f"{self._store.root}/{name}", self._vectors.spec.length)

    def nearest(
        self,
        queries: Sequence[Query],
        count: int,
        metric: Metric = "cosine",
        among: Bool[np.ndarray, " rows"] | None = None,
    ) -> list[Found]:
        """Return the nearest rows of each query, with exact scores; some of them are missed.

        Args:
            queries: each is held against every row's codes.
            count: how many rows to return.
            metric: as for `nearest.nearest`.
            among: only these rows; None: all.

        Raises:
            InputError: a query has another length, or a file is missing or damaged.
        """
        for query in queries:
            if len(query.values) != self._vectors.spec.length:
                raise InputError(
                    f"the vector to compare with has {len(query.values):,} numbers, those of the "
                    f"store {self._vectors.spec.length:,}"
                )
        least, most = SURVIVORS
        share_of_rows = min(max(len(self._vectors) // ROWS_PER_SURVIVOR, least), most)
        survivors = max(share_of_rows, SURVIVORS_PER_ROW * count)
        turned = [self.projection.turned(query) for query in queries]

        def work(shards: Iterator[int]) -> list[Found]:
            best = [Best(survivors) for _ in queries]
            for shard in shards:
                for first, codes in self._batches(shard):
                    rows = np.arange(first, first + len(codes.scales))
                    inside = None if among is None else np.flatnonzero(among[rows])
                    for (numbers, offset), held in zip(turned, best, strict=True):
                        scores = _scores(codes, numbers, offset, metric)
                        if inside is None:
                            held.add(rows, scores)
                        else:
                            held.add(rows[inside], scores[inside])
            return [each.found() for each in best]

        made = share(range(len(self._store.shards)), work, self._threads)
        left = [best_of(parts, survivors).rows for parts in zip(*made, strict=True)]
        return [
            self._settled(np.sort(rows), query, count, metric)
            for rows, query in zip(left, queries, strict=True)
        ]

    @property
    def _threads(self) -> int:
        return REQUESTS if self._vectors.far else machine.cpus()

    def _settled(
        self, rows: Int64[np.ndarray, " survivors"], query: Query, count: int, metric: Metric
    ) -> Found:
        """Score the survivors as they are stored."""

        def work(parts: Iterator[Int64[np.ndarray, " part"]]) -> list[Found]:
            return [settle(self._vectors, part, query, count, metric) for part in parts]

        parts = np.array_split(rows, 4 * self._threads)
        made = share(parts, work, self._threads)
        return best_of([found for each in made for found in each], count)

    def _batches(self, shard: int) -> Iterator[tuple[int, Codes]]:
        """Yield the codes of one shard, each batch with the number of its first row."""
        first = int(self._vectors.first[shard])
        for codes in self._codes(shard):
            yield first, codes
            first += len(codes.scales)

    def _codes(self, shard: int) -> Iterable[Codes]:
        """Return the codes of one shard. Files stay mapped: opening takes as long as reading."""
        if shard in self._mapped:
            return self._mapped[shard]
        entry = self._store.shards[shard]
        name = codes_name(self._key, entry.shard_id)
        read = read_codes(self._store.root, name, entry.rows, self.projection.schema)
        if self._vectors.far or len(self._mapped) >= MAPPED_SHARDS:
            return read
        self._mapped[shard] = list(read)
        return self._mapped[shard]


def _scores(
    codes: Codes, numbers: np.ndarray, offset: float, metric: Metric
) -> Float64[np.ndarray, " rows"]:
    """Return about what `nearest` would, up to the query's length."""
    products = np.empty(len(codes.scales), np.float32)
    multiply(codes.codes, numbers, products)
    cosines = codes.scales.astype(np.float64) * products + offset
    return cosines if metric == "cosine" else cosines * codes.lengths
