"""A mining pass over a store of maps, against the same pass over a store of windows.

Both stores are made from the same feature maps: images of 500×375 px at scale 688, 43×57 cells of
256 channels, 2,000 windows an image, pool5 vectors of 12,800 float16. Then fewer images at five
scales, 480 to 1200, where the area of a window decides its scale. Nine numbers in ten are zeros, as
SqueezeNet's are on photographs; the others are noise, which packs worse than what a network gives.
Both passes must see the same vectors to the bit. The windows lie in the page cache, which makes
them look as quick as memory: a note says what a disk would change. One thread.
"""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measure import Row, main

from pipeline import images, index, spp, store
from pipeline.config import Mining, Svm
from pipeline.datasets.records import ImageRecord, Object
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.mining import MiningSpec, mine_shard, start_shard
from pipeline.store.manifest import claim
from pipeline.store.place import place
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, SCALARS, box_array, vectors

SIZE = (500, 375)
STRIDE = 16  # pixels a cell
FIVE = (480, 576, 688, 864, 1200)
CLASSES = tuple(f"class{number:02d}" for number in range(20))
GROUP_BYTES = 32_000_000  # features.row_group_bytes
DISK_BYTES_S = 500e6  # a network disk of a cloud machine
SEVERAL = (
    ". Five scales have 6.8 times the cells of one: unpacking them, pooling, and putting the rows "
    "back in the windows' order is work that a store of windows is spared"
)


@dataclass(frozen=True)
class Case:
    """What both stores hold."""

    images: int
    windows: int
    scales: tuple[int, ...]

    def __str__(self) -> str:
        at = "" if len(self.scales) == 1 else f" at {len(self.scales)} scales"
        return f"{self.images} images of {self.windows:,} windows{at}"


def feature_map(number: int, scale_px: int, spec: store.MapSpec) -> torch.Tensor:
    """An image's map at a scale, the channel fastest."""
    width, height = images.resized_size(*SIZE, scale_px)
    shape = (height // STRIDE, width // STRIDE, spec.channels)
    values = np.random.default_rng([number, scale_px]).normal(size=shape)
    values = np.maximum(values - 1.28, 0)  # a tenth of a normal distribution lies above 1.28
    return torch.from_numpy(values.astype(np.float16)).permute(2, 0, 1)


def scalar_rows(number: int, count: int, scales: tuple[int, ...]) -> pa.Table:
    """Windows of all sizes from 20 px up, and one object among them: the last one."""
    rng = np.random.default_rng(number)
    sides = np.exp(rng.uniform(np.log(20), np.log(SIZE), (count, 2))).astype(int)
    corner = (rng.random((count, 2)) * (np.array(SIZE) - sides)).astype(int)
    boxes = np.hstack([corner, corner + sides]).astype(np.float32)
    scale_px = np.array(scales, np.int16)[spp.choose_scale(boxes, SIZE, scales)]
    word = pa.dictionary(pa.int32(), pa.string())
    sources = ["selective_search"] * (count - 1) + ["ground_truth"]
    columns = {
        "image_id": pa.array([f"{number:06d}"] * count),
        "window_id": pa.array(np.arange(count, dtype=np.int32)),
        **{name: pa.array(boxes[:, k].copy()) for k, name in enumerate(BOX_COLUMNS)},
        "scale_px": pa.array(scale_px),
        "source": pa.array(sources).cast(word),
        "split": pa.array(["train"] * count).cast(word),
    }
    return pa.table(columns, schema=pa.schema(SCALARS))


def make_stores(root: Path, case: Case) -> list[store.Store]:
    """The same images as windows and as maps, one shard each."""
    spec = store.MapSpec(STRIDE, 20.0, 6.5, 256, (6, 3, 2, 1), "float16")
    vector = store.VectorSpec(spec.vector_length)
    tables = [scalar_rows(number, case.windows, case.scales) for number in range(case.images)]
    writers = [
        store.ShardWriter(place(root / kind), "shard", vector.schema(), GROUP_BYTES, maps)
        for kind, maps in (("windows", None), ("maps", spec))
    ]
    with writers[0] as plain, writers[1] as packed:
        for number, rows in enumerate(tables):
            pooled = np.empty((case.windows, spec.vector_length), np.float16)
            boxes, scale_px = box_array(rows), rows["scale_px"].to_numpy()
            for scale in np.unique(scale_px).tolist():
                width, height = images.resized_size(*SIZE, scale)
                factors = (width / SIZE[0], height / SIZE[1])
                whole, chosen = feature_map(number, scale, spec), scale_px == scale
                map_size = (whole.shape[2], whole.shape[1])
                cells = spp.window_cells(boxes[chosen], factors, spec, map_size)
                pooled[chosen] = spp.pool(whole, cells, spec.levels).numpy()
                packed.write_maps(store.maps_table(f"{number:06d}", scale, factors, whole, spec))
            packed.write(rows)
            column = vector.schema().field("vector"), vector.to_arrow(pooled)
            plain.write(rows.append_column(*column))
        for writer in writers:
            held = {f"{k:06d}": case.windows for k in range(case.images)}
            writer.commit("benchmark", held, {}, "")
    return [_finish(root / kind, tables) for kind in ("windows", "maps")]


def _finish(root: Path, tables: list[pa.Table]) -> store.Store:
    records = []
    for number, rows in enumerate(tables):
        box = tuple(rows[name][-1].as_py() for name in BOX_COLUMNS)
        one = Object(CLASSES[number % len(CLASSES)], box)
        records.append(ImageRecord(f"{number:06d}", Path("none.jpg"), *SIZE, (one,)))
    claim(place(root), {"network": "none"})
    pq.write_table(index.images_table(records, "train"), root / "images.parquet")
    pq.write_table(index.objects_table(records, "train"), root / "objects.parquet")
    store.finish(place(root), ["shard"])
    return store.open(root)


def classifiers(held: store.Store) -> Classifiers:
    """Twenty classes, to each of which one window in a hundred is a hard negative."""
    first = vectors(next(held.scan(["vector"]))).astype(np.float32)
    scale = 20 / float(np.linalg.norm(first, axis=1).mean())
    weights = np.random.default_rng(0).normal(size=(len(CLASSES), first.shape[1]))
    weights = (weights / np.sqrt(first.shape[1])).astype(np.float32)
    highest = np.quantile(scale * first @ weights.T, 0.99, axis=0)
    return Classifiers(CLASSES, weights, (-1 - highest).astype(np.float32), scale)


def read(held: store.Store) -> None:
    """Read all vectors."""
    for table in scan_shard(held, "shard", ["vector"]):
        vectors(table)


def read_and_score(held: store.Store, known: Classifiers) -> None:
    """What mining needs of a shard at least: its vectors, and one product for all classes."""
    score = known.scorer()
    for table in scan_shard(held, "shard", ["vector"]):
        score(vectors(table))


class Round:
    """A round of mining over one store."""

    def __init__(self, held: store.Store, known: Classifiers, root: Path) -> None:
        self._known, self._caches = known, [root / "start", root / "round"]
        self._spec = MiningSpec(held, CLASSES, Svm(), Mining(), seed=0)
        start_shard(self._spec, "shard", self._caches[0])

    def __call__(self) -> list[int]:
        """Mine the shard; return how many negatives each class gained."""
        return mine_shard(self._spec, "shard", self._caches, self._known).gained


def check(windows: store.Store, maps: store.Store) -> None:
    """Both kinds give the same tables."""
    for one, other in zip(windows.scan(), maps.scan(), strict=True):
        assert one.equals(other)
    assert windows.verify() == maps.verify() == []


def run(quick: bool) -> list[Row]:
    """Bytes of both kinds; reading, reading and scoring, and a round of mining."""
    torch.set_num_threads(1)
    if quick:
        cases, runs = [Case(2, 50, (208,)), Case(2, 50, (96, 128, 160, 192, 224))], 1
    else:
        cases, runs = [Case(5, 2000, (688,)), Case(3, 2000, FIVE)], 7
    return [row for case in cases for row in of_case(case, runs)]


def of_case(case: Case, runs: int) -> list[Row]:
    """The figures of one pair of stores."""
    several = len(case.scales) > 1
    with tempfile.TemporaryDirectory() as folder:
        held, packed = make_stores(Path(folder), case)
        check(held, packed)
        known = classifiers(held)
        rounds = [Round(one, known, Path(folder) / f"{one.kind}-caches") for one in (packed, held)]
        assert rounds[0]() == rounds[1]()
        assert sum(rounds[0]()) > 0
        sizes = [one.totals.bytes for one in (packed, held)]
        wanted = None if several else 20.0
        cold_s = [size / DISK_BYTES_S for size in sizes]
        note = (
            f"{case}: from the page cache; a cold disk of {DISK_BYTES_S / 1e6:.0f} MB/s adds "
            f"{cold_s[0]:.3g} s to maps and {cold_s[1]:.3g} s to windows"
        )
        if several:
            note += SEVERAL

        def row(name: str, ours, theirs, target: float | None) -> Row:
            ours_s, theirs_s = alternating_s(ours, theirs, runs)
            return Row(f"{name}, {case}", ours_s, "store of windows", theirs_s, target, note)

        return [
            Row(f"bytes, {case}", sizes[0], "store of windows", sizes[1], wanted, unit="B"),
            row("read, maps", partial(read, packed), partial(read, held), None),
            row(
                "read and score, maps",
                partial(read_and_score, packed, known),
                partial(read_and_score, held, known),
                1 / 1.2,
            ),
            row("mine_shard, maps", *rounds, 1 / 1.2),
        ]


def alternating_s(ours, theirs, runs: int) -> tuple[float, float]:
    """Median seconds of two calls that take turns, so that a machine's moods meet both."""
    spent: list[list[float]] = [[], []]
    for turn in range(runs + 1):
        for times, work in zip(spent, (ours, theirs), strict=True):
            start = time.perf_counter()
            work()
            times.extend([time.perf_counter() - start] if turn else [])
    return float(np.median(spent[0])), float(np.median(spent[1]))


if __name__ == "__main__":
    main(run)
