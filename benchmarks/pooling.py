"""Pooling 2,000 windows × 50 bins × 256 channels, against a copy of its output and against torch.

A map of 63×38 cells, about what ZF-5 makes of a photograph at scale 688, in channels-last memory;
windows of random place and size, or real ones of selective search where the data are at hand. One
thread where nothing else is said. `into place` writes to memory that has been used before, as an
extractor does, `new` to memory that the system has to fetch and clear first; each is compared with
a copy of the finished vectors of the same kind. All peers' results must equal ours, bit by bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from measure import Row, main, median_s
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from pipeline import spp
from pipeline.networks import Geometry

try:
    from torchvision.ops import roi_pool as torchvision_pool
except (ImportError, RuntimeError):  # it does not import beside every torch
    torchvision_pool = None

LEVELS, CHANNELS = (6, 3, 2, 1), 256
REAL = Path(__file__).parents[2] / "shared/data/windows"
THIRD = 1 / 3  # at most three times the time


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch, and so pooling, use so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_map(rows: int, cols: int) -> Tensor:
    """Random numbers `[channels rows cols]`, channels-last in memory."""
    values = torch.randn(rows, cols, CHANNELS, generator=torch.Generator().manual_seed(0))
    return values.permute(2, 0, 1)


def random_cells(windows: int, rows: int, cols: int) -> np.ndarray:
    """Corners anywhere, sizes up to the map's edge."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, [cols, rows], (windows, 2))
    size = 1 + (rng.random((windows, 2)) * ([cols, rows] - corner)).astype(int)
    return np.hstack([corner, np.minimum(corner + size, [cols, rows])])


def real_cells(windows: int) -> np.ndarray | None:
    """Selective search's windows of photographs of 500×375 px at scale 688, on 56×42 cells."""
    files = sorted(REAL.glob("*selective_search*.parquet"))
    if not files:
        return None
    table = pq.read_table(files[0])
    extents = table.group_by("image_id").aggregate([("x_max", "max"), ("y_max", "max")])
    wanted = pc.and_(pc.equal(extents["x_max_max"], 500), pc.equal(extents["y_max_max"], 375))
    ids = extents.filter(wanted)["image_id"]
    sides = ("x_min", "y_min", "x_max", "y_max")
    chosen = table.filter(pc.is_in(table["image_id"], ids)).slice(0, windows)
    boxes = np.stack([chosen[side].to_numpy() for side in sides], axis=1)
    # ZF-5's stride, centre and shrink (SPEC §3): 688 px give 42 cells, 917 px 56.
    return spp.window_cells(boxes, (917 / 500, 688 / 375), Geometry(16, 20, 6.5), (56, 42))


def adaptive(feature_map: Tensor, cells: np.ndarray, out: Tensor | None = None) -> Tensor:
    """Pool window by window and level by level, as one writes it with torch alone."""
    vectors = []
    for x0, y0, x1, y1 in cells:
        window = feature_map[:, y0:y1, x0:x1]
        vectors.append(
            torch.cat([adaptive_max_pool2d(window, n).flatten(1).T.flatten() for n in LEVELS])
        )
    return torch.stack(vectors, out=out)


def by_torchvision(feature_map: Tensor, cells: Tensor) -> Tensor:
    """The pooling of torchvision, once for each level; its boxes include the last cell."""
    boxes = torch.cat([cells.new_zeros(len(cells), 1), cells[:, :2], cells[:, 2:] - 1], dim=1)
    boxes = boxes.to(feature_map)
    levels = [torchvision_pool(feature_map[None], boxes, n).flatten(2) for n in LEVELS]
    return torch.cat(levels, dim=2).transpose(1, 2).flatten(1)


def against_copies(feature_map: Tensor, cells: np.ndarray, what: str) -> list[Row]:
    """Into place and new, against a copy of the finished vectors."""
    vectors = spp.pool(feature_map, cells, LEVELS)
    assert torch.equal(vectors[:20], adaptive(feature_map, cells[:20]))
    place = vectors.clone()
    spp.pool(feature_map, cells, LEVELS, out=place)
    assert torch.equal(place, vectors)
    return [
        Row(
            f"{what}, into place",
            median_s(lambda: spp.pool(feature_map, cells, LEVELS, out=place), 7),
            "a copy of the output, into place",
            median_s(lambda: place.copy_(vectors), 7),
            THIRD,
        ),
        Row(
            f"{what}, new",
            median_s(lambda: spp.pool(feature_map, cells, LEVELS), 7),
            "a copy of the output, new",
            median_s(vectors.clone, 7),
            THIRD,
        ),
    ]


def against_torch(feature_map: Tensor, cells: np.ndarray, what: str, runs: int) -> list[Row]:
    """Against what one would use instead, its result put into place as well."""
    ours = spp.pool(feature_map, cells, LEVELS)
    first = feature_map.contiguous()  # the order of memory in which the peers are fastest
    place = adaptive(first, cells)
    assert torch.equal(place, ours)
    peers = {
        "torch's adaptive_max_pool2d, window by window": (80, lambda: adaptive(first, cells, place))
    }
    if torchvision_pool is not None:
        boxes = torch.from_numpy(cells)
        # It rounds fractions of a cell in float32: a few bins begin a cell too early.
        assert (by_torchvision(first, boxes) == ours).float().mean() > 0.98
        peers["torchvision's roi_pool, four levels"] = (25, lambda: by_torchvision(first, boxes))
    ours_s = median_s(lambda: spp.pool(feature_map, cells, LEVELS, out=ours), 7)
    return [
        Row(what, ours_s, named, median_s(peer, runs), target)
        for named, (target, peer) in peers.items()
    ]


def against_new_memory(feature_map: Tensor, cells: np.ndarray, what: str) -> Row:
    """What of the time for a new result is the system's, which clears every page it gives."""
    length = CHANNELS * sum(level * level for level in LEVELS)
    return Row(
        f"{what}, new",
        median_s(lambda: spp.pool(feature_map, cells, LEVELS), 7),
        "filling as much new memory with ones",
        median_s(lambda: spp.empty_vectors(len(cells), length, feature_map).fill_(1), 7),
        None,
    )


def more_threads(feature_map: Tensor, cells: np.ndarray, what: str) -> Row:
    """Two threads against one, the result the same."""
    vectors = spp.pool(feature_map, cells, LEVELS)
    place = torch.zeros_like(vectors)

    def call() -> Tensor:
        return spp.pool(feature_map, cells, LEVELS, out=place)

    alone_s = median_s(call, 7)
    with threads(2):
        together_s = median_s(call, 7)
    assert torch.equal(place, vectors)
    return Row(f"{what}, into place, 2 threads", together_s, "ours on one thread", alone_s, None)


def same_cells(cells: np.ndarray, what: str) -> Row:
    """Finding the windows that share a vector."""
    found, places = spp.distinct(cells)
    assert np.array_equal(found[places], cells)
    assert len(found) == len(np.unique(cells, axis=0))
    note = f"{what} fall on {len(found):,} different cells"
    return Row(
        f"the distinct cells among {what}",
        median_s(lambda: spp.distinct(cells)),
        "numpy's unique by rows",
        median_s(lambda: np.unique(cells, axis=0, return_index=True, return_inverse=True)),
        None,
        note,
    )


def on_a_card(feature_map: Tensor, cells: np.ndarray, what: str) -> list[Row]:
    """The CUDA kernel: against a copy of its output, and against torchvision."""
    there = feature_map.cuda()
    vectors = spp.pool(there, cells, LEVELS)
    assert torch.equal(vectors.cpu(), spp.pool(feature_map, cells, LEVELS))
    place = torch.empty_like(vectors)

    def waited(function: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            function()
            torch.cuda.synchronize()

        return call

    ours_s = median_s(waited(lambda: spp.pool(there, cells, LEVELS, out=place)), 20)
    copy_s = median_s(waited(lambda: place.copy_(vectors)), 20)
    rows = [Row(f"{what}, CUDA", ours_s, "a copy of the output", copy_s, 0.5)]
    if torchvision_pool is not None:
        boxes, first = torch.from_numpy(cells).cuda(), there.contiguous()
        peer_s = median_s(waited(lambda: by_torchvision(first, boxes)), 20)
        rows.append(Row(f"{what}, CUDA", ours_s, "torchvision's roi_pool, four levels", peer_s, 10))
    return rows


def run(quick: bool) -> list[Row]:
    """Random windows in two dtypes, real ones where they are, two threads, a card."""
    windows, runs = (60, 1) if quick else (2000, 5)
    feature_map, cells = random_map(38, 63), random_cells(windows, 38, 63)
    half = feature_map.half()
    what = f"{windows:,} random windows"
    with threads(1):
        rows = [
            *against_copies(feature_map, cells, f"float32, {what}"),
            against_new_memory(feature_map, cells, f"float32, {what}"),
            *against_torch(feature_map, cells, f"float32, {what}, into place", runs),
            *against_copies(half, cells, f"float16, {what}"),
            more_threads(feature_map, cells, f"float32, {what}"),
            more_threads(half, cells, f"float16, {what}"),
        ]
        real = real_cells(windows)
        if real is not None:
            here, real_what = random_map(42, 56), f"{windows:,} real windows"
            rows += against_copies(here, real, f"float32, {real_what}")
            rows += against_copies(here.half(), real, f"float16, {real_what}")
            rows += against_torch(here, real, f"float32, {real_what}, into place", runs)
            rows.append(same_cells(real, real_what))
        if torch.cuda.is_available():
            for values in (feature_map, half):
                name = str(values.dtype).removeprefix("torch.")
                rows += on_a_card(values, cells, f"{name}, {what}")
    return rows


if __name__ == "__main__":
    main(run)
