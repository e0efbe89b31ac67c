"""A mining pass over shards for 20 classes, against reading them alone plus multiplying alone.

The pass is `mine_shard`: read every vector, score it for all classes, apply the overlap rules,
evict, and write down what was gained: about five windows a class and image, each by about two
classes, as in a round over some thousand photographs. Reading alone is `scan_shard` over the same
columns. Multiplying alone is torch's product of all windows with the 20 weight vectors in blocks
of 2 MB, the quickest, in two ways: as the windows lie there, halves that are widened before; and as
if they had been widened already, which nobody can have for nothing. One thread, page cache.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measure import Row, main, median_s

from pipeline import boxes, index, store
from pipeline.config import Features, Mining, Svm
from pipeline.datasets.records import ImageRecord, Object
from pipeline.learning import Classifiers
from pipeline.learning.cache import read_members, vectors_path
from pipeline.learning.mining import MiningSpec, mine_shard, start_shard
from pipeline.store.manifest import claim
from pipeline.store.place import place
from pipeline.store.scan import scan_shard
from pipeline.store.schema import (
    BOX_COLUMNS,
    GROUND_TRUTH,
    SCALARS,
    VectorSpec,
    box_array,
    vectors,
)

BLOCK_BYTES = 1 << 21  # widened at a time: what was just written is still near
CLASSES = tuple(f"class {k:02d}" for k in range(20))
WIDTH, HEIGHT = 500, 375
HARD = 0.0025  # share of a class's windows above -1.0001: five of 2,000
ALIKE = 1.25  # then about two classes gain the same window, as they do on photographs


def made_images(images: int) -> list[ImageRecord]:
    """Records with two objects each."""
    random = np.random.default_rng(1)
    records = []
    for number in range(images):
        held = made_boxes(random, 2)
        names = random.integers(0, len(CLASSES), 2)
        objects = tuple(
            Object(CLASSES[k], tuple(map(float, box)))  # pyright: ignore[reportArgumentType]
            for k, box in zip(names, held, strict=True)
        )
        records.append(ImageRecord(f"{number:06d}", Path("none"), WIDTH, HEIGHT, objects))
    return records


def made_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Boxes of all sizes in the image, many of which overlap."""
    size = np.exp(random.uniform(np.log(20), np.log(300), (count, 2)))
    corner = random.uniform(0, 1, (count, 2)) * ([WIDTH, HEIGHT] - size)
    return np.hstack([corner, corner + size]).astype(np.float32)


def made_store(root: Path, images: int, windows: int, dim: int, per_shard: int) -> store.Store:
    """A store of non-negative halves, half of them zero, as after ReLU and max pooling."""
    spec = VectorSpec(dim)
    claim(place(root), {"network": "none"})
    records = made_images(images)
    word = pa.dictionary(pa.int32(), pa.string())
    random = np.random.default_rng(0)
    base = np.maximum(random.standard_normal((windows + 2, dim), np.float32), 0)
    shard_ids = []
    for first in range(0, images, per_shard):
        shard_ids.append(f"{first:05d}")
        with store.ShardWriter(place(root), shard_ids[-1], spec.schema(), 32_000_000) as writer:
            for record in records[first : first + per_shard]:
                proposed = made_boxes(random, windows)
                corners = np.vstack([proposed, [one.box for one in record.objects]])
                count = len(corners)
                words = ["selective_search"] * windows + [GROUND_TRUTH] * len(record.objects)
                columns = [
                    pa.array([record.image_id] * count),
                    pa.array(np.arange(count, dtype=np.int32)),
                    *(pa.array(side) for side in corners.astype(np.float32).T),
                    pa.array(np.full(count, 688, np.int16)),
                    pa.array(words).cast(word),
                    pa.array(["train"] * count).cast(word),
                    spec.to_arrow(base[random.permutation(count)].astype(np.float16)),
                ]
                writer.write(pa.table(columns, schema=spec.schema()))
            names = {r.image_id: windows + 2 for r in records[first : first + per_shard]}
            writer.commit("benchmark", names, {}, "")
    pq.write_table(index.images_table(records, "train"), root / "images.parquet")
    pq.write_table(index.objects_table(records, "train"), root / "objects.parquet")
    store.finish(place(root), shard_ids)
    return store.open(root)


def made_classifiers(held: store.Store, dim: int) -> Classifiers:
    """Random weights, alike in part, with intercepts that leave the wanted share as hard."""
    random = np.random.default_rng(2)
    weights = random.standard_normal((len(CLASSES), dim), np.float32) / 100
    weights += ALIKE * random.standard_normal(dim, np.float32) / 100
    raw = Classifiers(CLASSES, weights, np.zeros(len(CLASSES), np.float32), 1.0)
    scores = np.concatenate([raw.score(vectors(t)) for t in scan(held, held.shards[0].shard_id)])
    intercepts = -1.0001 - np.quantile(scores, 1 - HARD, axis=0)
    return Classifiers(CLASSES, weights, intercepts.astype(np.float32), 1.0)


def scan(held: store.Store, shard_id: str) -> Iterator[pa.Table]:
    """What mining reads of a shard."""
    columns = [f.name for f in SCALARS if f.name in ("image_id", *BOX_COLUMNS, "source")]
    return scan_shard(held, shard_id, [*columns, "vector"])


def read(held: store.Store) -> None:
    """Read all of it and do nothing."""
    for entry in held.shards:
        for table in scan(held, entry.shard_id):
            vectors(table)


def multiply(blocks: list[torch.Tensor], weights: torch.Tensor, rows: int) -> None:
    """Multiply as many rows as the store has, block by block; halves are widened before."""
    size = len(blocks[0])
    wide = torch.empty(size, len(weights))
    out = torch.empty(size, weights.shape[1])
    for number in range(0, rows, size):
        block = blocks[number // size % len(blocks)]
        if block.dtype != torch.float32:
            block = wide.copy_(block)
        torch.mm(block, weights, out=out)


def check(held: store.Store, known: Classifiers, caches: list[Path]) -> None:
    """Hold what the pass found in the first image against the rules told plainly."""
    shard_id = held.shards[0].shard_id
    table = next(scan(held, shard_id))
    count = next(iter(held.record(shard_id).images.values()))
    corners, numbers = box_array(table)[:count], vectors(table)[:count].astype(np.float32)
    scores = known.score(numbers)  # to the bit, for some lie on a limit
    np.testing.assert_allclose(scores, numbers @ known.weights.T + known.intercepts, atol=1e-3)
    objects = held.objects_of(shard_id).to_pylist()
    before, after = (read_members(folder, shard_id, len(CLASSES)) for folder in caches)
    for k, name in enumerate(CLASSES):
        here = [one for one in objects if (one["class"], one["image_id"]) == (name, "000000")]
        own = [[one[side] for side in BOX_COLUMNS] for one in here]
        far = (boxes.iou(corners, own) < 0.3).all(axis=1)
        was = set(before.row[before.negative[:, k]].tolist())
        kept = [row for row in was if row < count and scores[row, k] >= -1.2]
        hard = [r for r in np.flatnonzero(far & (scores[:, k] > -1.0001)) if r not in was]
        for row in sorted(hard, key=lambda row: -scores[row, k]):
            if not (boxes.iou(corners[[row]], corners[kept]) > 0.7).any():
                kept.append(int(row))
        found = after.row[after.negative[:, k]]
        if sorted(kept) != found[found < count].tolist():
            raise AssertionError(f"{name}: {sorted(kept)} by the rules, {found[found < count]}")


def measured(dim: int, images: int, windows: int, quick: bool) -> list[Row]:
    """The two figures of one length of vectors."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        per_shard = max(min(Features().shard_bytes // (windows * dim * 2), images // 2), 1)
        held = made_store(root / "store", images, windows, dim, per_shard)
        known = made_classifiers(held, dim)
        spec = MiningSpec(held, CLASSES, Svm(), Mining(), 0)
        caches = [root / "start", root / "mined"]
        shard_ids = [entry.shard_id for entry in held.shards]
        for shard_id in shard_ids:
            start_shard(spec, shard_id, caches[0])
        gained: list[int] = []

        def mine() -> None:
            gained[:] = [
                sum(mine_shard(spec, shard_id, caches, known).gained) for shard_id in shard_ids
            ]

        runs = 1 if quick else 5
        pass_s, read_s = median_s(mine, runs), median_s(lambda: read(held), runs)
        check(held, known, caches)
        written = sum(
            pq.read_metadata(vectors_path(caches[1], shard_id)).num_rows for shard_id in shard_ids
        )
        # A whole shard in memory: fewer rows would come from the processor's cache.
        halves = np.concatenate([vectors(table) for table in scan(held, shard_ids[0])])
        blocks = [torch.from_numpy(part) for part in _parts(halves)]
        weights = torch.from_numpy(np.ascontiguousarray(known.weights.T))
        halves_s = median_s(lambda: multiply(blocks, weights, len(held)), runs)
        wide = [block.float() for block in blocks]
        wide_s = median_s(lambda: multiply(wide, weights, len(held)), runs)
        what = f"mining pass, {len(held):,} x {dim:,} float16, 20 classes"
        told = (
            f"{dim:,}: reading {read_s:.3f} s, product of halves {halves_s:.3f} s, of widened "
            f"numbers {wide_s:.3f} s; {sum(gained) / images / 20:.1f} windows gained a class and "
            f"image, by {sum(gained) / max(written, 1):.1f} classes each"
        )
        return [
            Row(what, pass_s, "reading + product of halves", read_s + halves_s, 1 / 1.3, told),
            Row(what, pass_s, "reading + product, widened before", read_s + wide_s, None),
        ]


def _parts(held: np.ndarray) -> list[np.ndarray]:
    """Blocks of the size that suits the product best, all of one size."""
    size = max(BLOCK_BYTES // (4 * held.shape[1]), 32)
    starts = range(0, len(held), size)
    return [np.resize(held[start : start + size], (size, held.shape[1])) for start in starts]


def run(quick: bool) -> list[Row]:
    """Both lengths: pool5 of ZF-5, and fc7."""
    torch.set_num_threads(1)
    if quick:
        return measured(64, 4, 300, quick)
    return [*measured(12_800, 15, 2000, quick), *measured(4096, 45, 2000, quick)]


if __name__ == "__main__":
    main(run)
