"""Makes the compact copy of a store, shard by shard, and measures what it loses.

What is there is kept: run again, it finishes what is missing.
"""

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Int64

from pipeline import machine
from pipeline.errors import InputError
from pipeline.learning.labelling import is_ground_truth
from pipeline.search import compact
from pipeline.search.codes import Codes, joined, read_codes, to_batch
from pipeline.search.compact import Compact, Recall, Record
from pipeline.search.nearest import Found, nearest
from pipeline.search.projection import Projection, fit, from_bytes
from pipeline.search.similar import Find, Hits, similar
from pipeline.store.blocks import Block, Query, query
from pipeline.store.garbage import KEPT_S
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.threads import share, torch_threads

NUMBERS = 512  # a vector: a byte each
SAMPLE = 8192  # vectors that the axes are found in
BLOCK_ROWS, BATCH_ROWS = 1024, 1 << 14  # turned at a time, and written: read in few steps
QUERIES, AT, HITS = 100, 100, 20  # of the recall that is measured
HITS_STEP = 5  # of the queries, one is measured with its hits, too: to fold reads many boxes
TIMED = 5  # of the queries, one by one

Tell = Callable[[int, int], object]
"""Called with how many shards are done, of how many."""


def build(
    store: Store, numbers: int = NUMBERS, seed: int = 0, tell: Tell = lambda done, of: None
) -> Record:
    """Make the compact copy of a store, or finish it, and return its record.

    Equal vectors, numbers and seed give equal files on the same kind of processor.

    Raises:
        InputError: the store has no rows, or a shard is damaged.
    """
    vectors, root = Vectors(store), store.root
    if not len(vectors):
        raise InputError(f"{root} has no windows to make a compact copy of")
    key = compact.key_of(store, numbers, seed, SAMPLE)
    projection = _projection(store, vectors, key, numbers, seed)
    missing = [
        number
        for number in range(len(store.shards))
        if not _whole(store, key, number, projection.schema)
    ]
    done = len(store.shards) - len(missing)

    def work(shards: Iterator[int]) -> None:
        nonlocal done
        # For each thread of its own: torch would start as many again.
        with torch_threads(1):
            for shard in shards:
                _write(store, vectors, key, shard, projection)
                done += 1
                tell(done, len(store.shards))

    share(missing, work, machine.cpus())
    held = compact.read_record(store)
    if held is None or held.key != key or missing:
        rows, hits = measure(vectors, Compact(store, vectors, key), seed)
        kept = projection.axes.shape[1]
        held = Record(key, kept, seed, _bytes(store, key), rows, hits)
        root.replace(compact.record_name(store), compact.record_bytes(held))
    _remove_others(store, key)
    return held


def _projection(store: Store, vectors: Vectors, key: str, numbers: int, seed: int) -> Projection:
    """Return the axes, which are written first. Of several at work the first one's count."""
    name = compact.axes_name(key)
    if (data := store.root.read(name)) is not None:
        try:
            return from_bytes(data, f"{store.root}/{name}", vectors.spec.length)
        except InputError:  # damaged
            store.root.remove(name)
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:SAMPLE]
    sample = torch.from_numpy(vectors.take(np.sort(chosen)))
    # As if for all processors: sums in another order round differently.
    with torch_threads(1):
        made = fit(sample, numbers, seed)
    store.root.create(name, made.to_bytes())
    return Compact(store, vectors, key).projection


def _whole(store: Store, key: str, shard: int, schema: pa.Schema) -> bool:
    entry = store.shards[shard]
    name = compact.codes_name(key, entry.shard_id)
    try:
        for _ in read_codes(store.root, name, entry.rows, schema):
            pass
    except InputError:
        return False
    return True


def _write(store: Store, vectors: Vectors, key: str, shard: int, projection: Projection) -> None:
    """Write the codes of one shard, whole or not at all."""
    name = compact.codes_name(key, store.shards[shard].shard_id)
    schema = projection.schema
    with store.root.spool(name) as path:
        with pa.OSFile(str(path), "w") as sink, pa.ipc.new_file(sink, schema) as writer:
            for codes in _batches(vectors, shard, projection):
                writer.write_batch(to_batch(codes, schema))
        store.root.bring(path, name)


def _batches(vectors: Vectors, shard: int, projection: Projection) -> Iterator[Codes]:
    """Yield the codes of a shard, many rows at a time."""
    made: list[Codes] = []
    for _, block in vectors.blocks(shard):
        for start in range(0, len(block), BLOCK_ROWS):
            starts = block.starts[start : start + BLOCK_ROWS]
            part = Block(block.buffer, starts, block.spec).take()
            made.append(projection.codes(torch.from_numpy(part)))
            if BLOCK_ROWS * len(made) >= BATCH_ROWS:
                yield joined(made)
                made = []
    if made:
        yield joined(made)


def _bytes(store: Store, key: str) -> int:
    listed = store.root.listing(compact.FOLDER)
    return sum(each.bytes for name, each in listed.items() if name.startswith(f"{key}-"))


def _remove_others(store: Store, key: str) -> None:
    """Remove what was made of other vectors, or with other numbers, and killed attempts' files."""
    record, before_s = compact.record_name(store), time.time() - KEPT_S
    for name, listed in store.root.listing(compact.FOLDER).items():
        whole = f"{compact.FOLDER}/{name}"
        # Another attempt may be at work on what is young.
        aside = ".tmp." in name
        ours = whole == record or name.startswith(f"{key}-")
        if not re.fullmatch(r"[0-9a-f]+(-.+)?\.(json|arrow|safetensors)(\.tmp\..+)?", name):
            continue  # nobody's here
        if listed.modified_s < before_s if aside else not ours:
            store.root.remove(whole)


# --- recall ---------------------------------------------------------------------------------------


def measure(vectors: Vectors, copy: Compact, seed: int) -> tuple[Recall, Recall]:
    """Return what the copy loses of the nearest windows, and of the hits that are made of them.

    Hits are those that `spp similar` shows: folded, they ask for many more rows. Queries are
    windows of the store, half of them labelled objects where there are any.
    """
    queries = [query(each) for each in vectors.take(query_rows(vectors, seed))]
    exact = partial(nearest, vectors)
    rows = _recall(queries, lambda some, find: find(some, AT), exact, copy.nearest)
    hits = _recall(
        queries[::HITS_STEP],
        lambda some, find: similar(vectors, some, HITS, find),
        exact,
        copy.nearest,
    )
    return rows, hits


def _recall(
    queries: Sequence[Query],
    ask: Callable[[Sequence[Query], Find], Sequence[Found | Hits]],
    exact: Find,
    fast: Find,
) -> Recall:
    """Return which share of the exact answers the fast ones have, and how long both take."""
    known, found = ask(queries, exact), ask(queries, fast)
    # By scores, which are exact: of rows of equal score any may be the last.
    shares = [
        float(min((made.scores >= right.scores[-1]).sum() / len(right.scores), 1))
        for right, made in zip(known, found, strict=True)
    ]
    exact_s = _median_s(lambda one: ask([one], exact), queries)
    fast_s = _median_s(lambda one: ask([one], fast), queries)
    at = max(len(each.scores) for each in known)
    return Recall(statistics.mean(shares), min(shares), at, len(queries), exact_s, fast_s)


def _median_s(ask: Callable[[Query], object], queries: Sequence[Query]) -> float:
    spent: list[float] = []
    for each in queries[:TIMED]:
        start = time.perf_counter()
        ask(each)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def query_rows(vectors: Vectors, seed: int) -> Int64[np.ndarray, " queries"]:
    """Return rows to look for: labelled objects and any windows, half and half."""
    random = np.random.default_rng([seed, 1])
    store = vectors.store

    def of_shard(shard_id: str) -> list[Bool[np.ndarray, " rows"]]:
        return [is_ground_truth(table) for table in scan_shard(store, shard_id, ["source"])]

    found = store.root.each(of_shard, [entry.shard_id for entry in store.shards])
    labelled = np.flatnonzero(np.concatenate([part for parts in found for part in parts]))
    chosen = random.permutation(labelled)[: QUERIES // 2]
    return np.concatenate([chosen, random.integers(0, len(vectors), QUERIES - len(chosen))])
