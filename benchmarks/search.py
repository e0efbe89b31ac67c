"""Nearest windows: all vectors against reading memory, and a compact copy against all vectors.

Reading memory is numba's sum over the same bytes of the same mapped files, by as many threads. The
pass over all vectors gives the 100 nearest by cosine, of one query and of eight together. Its peers
are numpy (vectors widened in blocks and multiplied, then sorted by `argpartition`) and, where it is
installed, faiss' IndexFlatIP over float32 vectors of length 1, which takes twice the memory. As a
command does, files are mapped anew. The compact copy's pass ends with exact scores, too; what it
loses is counted over 100 windows. Vectors are made of 40 hidden causes, a third of them noise, and
lose what is below zero, as features do: on photographs see `spp index`.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from measure import Row, main, median_s
from numba import njit
from store import image_tables

from pipeline import machine, store
from pipeline.search import Compact, build
from pipeline.search.nearest import Found, nearest, pieces
from pipeline.store.blocks import Query, query
from pipeline.store.manifest import claim
from pipeline.store.place import place
from pipeline.store.rows import Vectors
from pipeline.store.schema import VectorSpec
from pipeline.threads import share

COUNT = 100
CAUSES = 40
SHARD_IMAGES = 8  # of 2,000 windows each: shards of 230 MB
GROUP_BYTES = 32_000_000  # features.row_group_bytes


def make(root: Path, images: int, dim: int) -> store.Store:
    """A store of windows whose vectors have few causes."""
    random, spec, where = np.random.default_rng(0), VectorSpec(dim), place(root)
    causes = random.normal(size=(CAUSES, dim)).astype(np.float32)
    causes *= (1 / np.sqrt(1 + np.arange(CAUSES)))[:, None]
    claim(where, {"network": "none"})
    shard_ids = []
    for number, first in enumerate(range(0, images, SHARD_IMAGES)):
        shard_ids.append(f"{number:05d}")
        with store.ShardWriter(where, shard_ids[-1], spec.schema(), GROUP_BYTES) as writer:
            held = {}
            for image in range(first, min(first + SHARD_IMAGES, images)):
                mixed = random.normal(size=(2000, CAUSES)).astype(np.float32) @ causes
                mixed += random.normal(size=mixed.shape).astype(np.float32)
                (table,) = image_tables(np.maximum(mixed, 0).astype(np.float16), spec)
                name = f"{image:06d}"
                writer.write(_named(table, name))
                held[name] = len(table)
            writer.commit("benchmark", held, {}, "")
    store.finish(where, shard_ids)
    return store.open(where)


def _named(table, name):
    """The same windows in an image of another name."""
    import pyarrow as pa

    column = pa.array([name] * len(table))
    return table.set_column(0, table.schema.field("image_id"), column)


@njit(nogil=True)
def total(words):
    """Read all."""
    summed = np.uint64(0)
    for at in range(len(words)):
        summed += words[at]
    return summed


def read_memory(vectors: Vectors) -> None:
    """Sum the bytes of all vectors, as they lie in the files."""

    def work(shards: Iterator[int]) -> None:
        for shard in shards:
            for _, block in vectors.blocks(shard):
                whole = len(block.buffer) // 8 * 8
                total(block.buffer[:whole].view(np.uint64))

    share(range(len(vectors.first) - 1), work, machine.cpus())


def by_numpy(vectors: Vectors, given: Query) -> Found:
    """The nearest by what numpy has."""
    scores = np.empty(len(vectors), np.float32)
    for piece in pieces(vectors):
        wide = vectors.take(np.arange(piece.start, piece.stop)).astype(np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        scores[piece] = wide @ given.values / np.maximum(lengths, 1e-30) / given.norm
    best = np.argpartition(-scores, COUNT)[:COUNT]
    best = best[np.argsort(-scores[best], kind="stable")]
    return Found(best, scores[best].astype(np.float64))


def by_faiss(vectors: Vectors, given: Query) -> Callable[[], object] | None:
    """A search of faiss over the same vectors, or None where it is not installed."""
    if importlib.util.find_spec("faiss") is None:
        return None
    import faiss

    index = faiss.IndexFlatIP(vectors.spec.length)
    for piece in pieces(vectors):
        wide = vectors.take(np.arange(piece.start, piece.stop)).astype(np.float32)
        faiss.normalize_L2(wide)
        index.add(wide)
    asked = (given.values / given.norm)[None]
    return lambda: index.search(asked, COUNT)


def run(quick: bool) -> list[Row]:
    """One store; every way over it."""
    images, dim, runs = (2, 64, 1) if quick else (56, 7168, 7)
    with tempfile.TemporaryDirectory() as folder:
        held = make(Path(folder) / "store", images, dim)
        return _rows(held, runs)


def _rows(held: store.Store, runs: int) -> list[Row]:
    vectors = Vectors(held)
    rows = np.random.default_rng(1).integers(0, len(vectors), 8)
    queries = [query(each) for each in vectors.take(rows)]
    one = queries[:1]
    what = f"{len(vectors):,} windows of {vectors.spec.length:,}-d"
    exact = partial(nearest, vectors, one, COUNT)
    (known,), numpy_found = exact(), by_numpy(vectors, one[0])
    assert np.allclose(known.scores, numpy_found.scores, atol=1e-5)
    exact_s = median_s(exact, runs)
    anew_s = median_s(lambda: nearest(Vectors(held), one, COUNT), runs)
    read_s = median_s(lambda: read_memory(vectors), runs)
    read_anew_s = median_s(lambda: read_memory(Vectors(held)), runs)
    numpy_s = median_s(lambda: by_numpy(vectors, one[0]), min(runs, 3))
    eight_s = median_s(lambda: nearest(vectors, queries, COUNT), min(runs, 3))
    made = [
        Row(f"nearest of {what}", exact_s, "reading memory", read_s, 0.6),
        Row(
            f"nearest of {what}, mapped anew", anew_s, "reading them, mapped anew", read_anew_s, 0.6
        ),
        Row(f"nearest of {what}", exact_s, "numpy", numpy_s, None),
        Row(f"nearest to 8 of {what}", eight_s, "eight passes of one", 8 * exact_s, None),
    ]
    if (search := by_faiss(vectors, one[0])) is not None:
        faiss_s = median_s(search, runs)
        made.append(Row(f"nearest of {what}", exact_s, "faiss IndexFlatIP", faiss_s, None))
    del search
    measured = build(held)
    copy = Compact(held, vectors, measured.key)
    fast_s = median_s(lambda: copy.nearest(one, COUNT), runs)
    recall, asked = measured.windows, measured.windows.queries * measured.windows.at
    note = f"{measured.numbers} bytes a window; the worst of the queries keeps {recall.least:.2f}"
    return [
        *made,
        Row(f"compact pass over {what}", fast_s, "all vectors", exact_s, 4, note),
        Row(
            f"the nearest {recall.at} of {recall.queries} windows", asked, "those it finds",
            asked * recall.recall, 0.99, unit="windows",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(run)
