"""One convolution of the image against R-CNN's of each warped window.

ZF-5 at full width, untrained, one thread, one image of 500×375 px with 2,000 windows that crowd as
selective search's do, in float32 and in bfloat16. R-CNN warps each window to 227×227 px (SPEC §10)
and runs the plain network on it, by the same functions and at the batch size that suits it best;
its convolutions are timed on some of the windows and scaled to all of them, its fc layers on all.
"exact" computes every window; "reuse, low rank" computes windows on the same cells once, with fc6
and fc7 truncated to ranks 1,024 and 256 (Fast R-CNN's). It has no target, because what it costs in
average precision cannot be measured: trained weights of ZF-5 are not published. See the notes.

By FLOPs of the convolutions s=688 is 146 times less work than 2,000 windows, and five scales 21
times; by pixels 163 and 24 times, but a small image loses more of its pixels at its edges, where a
kernel does not fit: a 227×227 window has 3.28 cells of conv5 for 1,000 pixels, the image 3.73.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from measure import Row, main, median_s
from torch.nn.functional import max_pool2d

from pipeline import features, images, spp
from pipeline.config import Features
from pipeline.networks import Network, load

SIZE = (500, 375)  # of a photograph of PASCAL VOC, px
SCALES = {"s=688": (688,), "5 scales": (480, 576, 688, 864, 1200)}
WARPED = 16  # windows that are warped together, and at most go through the network together
RANKS = {"fc6_rank": 1024, "fc7_rank": 256}
TARGETS = {  # wanted: conv features, to fc7 exact
    "s=688": (160.0, 14.0),
    "5 scales": (24.0, 9.0),
}
LOW_RANK = (
    "low rank has no target: at most 0.5 points of mAP may be lost, and to show that takes trained "
    "weights of ZF-5, which are not published. On the project's narrow digits network (fc7 of 256 "
    "units) ranks 64 and 32 lose 13 points: with weights of your own, measure before use"
)


@dataclass(frozen=True)
class Scene:
    """An image, its windows, and how many of them R-CNN's convolutions are timed on."""

    image: np.ndarray
    windows: np.ndarray
    sample: int
    options: dict[str, Any]
    """Of the networks."""
    scales: dict[str, tuple[int, ...]]
    ranks: dict[str, Any]


def run(quick: bool) -> list[Row]:
    """Time both ways to the same layers, in both precisions."""
    torch.set_num_threads(1)
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    if quick:
        small: dict[str, Any] = {"width": 0.1, "fc_units": 32}
        scales = {"s=688": (160,), "5 scales": (96, 128, 160, 192, 224)}
        ranks = {"fc6_rank": 8, "fc7_rank": 8}
        scene = Scene(noise, crowded_windows(40), 16, small, scales, ranks)
    else:
        scene = Scene(noise, crowded_windows(2000), 160, {}, SCALES, RANKS)
    rows = []
    for precision in ("float32", "bfloat16"):
        rows += of_precision(scene, precision, runs=2 if quick else 5)
    return rows


def of_precision(scene: Scene, precision: str, runs: int) -> list[Row]:
    """All rows of one precision."""
    ours = load("zf5", precision=precision, **scene.options)
    thin = load("zf5", precision=precision, **scene.options, **scene.ranks)
    # The plain network: fc6 reads 6x6 bins. Its columns run as SPP vectors do, which spares R-CNN
    # the turning of every vector.
    plain = load("zf5", precision=precision, levels=(6,), **scene.options)
    check(plain)
    peer = Peer(scene, plain, runs)
    rows = []
    for (name, scales), targets in zip(scene.scales.items(), TARGETS.values(), strict=True):
        settings = Features(scales=scales)
        resized, _ = features.resize_to_scales(scene.image, scene.windows, ours, settings)
        conv_s = median_s(partial(feature_maps, resized, ours), runs)
        exact_s = median_s(partial(fc7, scene, ours, settings, reuse=False), runs)
        exact_shared_s = median_s(partial(fc7, scene, ours, settings, reuse=True), runs)
        quick_s = median_s(partial(fc7, scene, thin, settings, reuse=True), runs)
        require_equal(fc7(scene, ours, settings, reuse=True), fc7(scene, ours, settings, False))
        share = distinct_share(scene, ours, settings)
        found = f"{precision}: R-CNN runs {peer.batch} windows at a time; warping takes "
        found += f"{peer.warp_s:.2f} s of its time, and is left out of the rows on conv features"
        reused = f"{name}: {share:.0%} of the windows cover cells of their own"
        label = f"{precision}, {name}: "
        rows += [
            Row(label + "conv features", conv_s, "R-CNN", peer.conv_s, targets[0], found),
            Row(label + "resize to fc7, exact", exact_s, "R-CNN", peer.total_s, targets[1]),
            Row(label + "the same, reuse", exact_shared_s, "R-CNN", peer.total_s, None, reused),
            Row(label + "reuse, low rank", quick_s, "R-CNN", peer.total_s, None, LOW_RANK),
        ]
    return rows


class Peer:
    """R-CNN on the scene: seconds for all windows."""

    def __init__(self, scene: Scene, network: Network, runs: int):
        part = scene.windows[:: len(scene.windows) // scene.sample][: scene.sample]
        factor = len(scene.windows) / len(part)
        warped = warp_all(scene.image, part, network)
        few = warped[: 1 + len(warped) // 4]
        tried = {
            n: median_s(partial(conv_all, few, network, n), runs) for n in (1, 2, 4, 8, WARPED)
        }
        self.batch = min(tried, key=lambda n: tried[n])
        self.warp_s = factor * median_s(partial(warp_all, scene.image, part, network), runs)
        self.conv_s = factor * median_s(partial(conv_all, warped, network, self.batch), runs)
        pooled_s = factor * median_s(partial(pool_all, warped, network, self.batch), runs)
        vectors = torch.rand(len(scene.windows), network.layer_size("pool5")).to(network.dtype)
        fc_s = median_s(partial(fc_all, vectors, network), runs)
        self.total_s = self.warp_s + pooled_s + fc_s


def warp_all(image: np.ndarray, windows: np.ndarray, network: Network) -> list[torch.Tensor]:
    """R-CNN's input: batches of warped and preprocessed windows, channels last."""
    preprocessing, batches = network.preprocessing, []
    for start in range(0, len(windows), WARPED):
        part = windows[start : start + WARPED]
        stacked = np.empty((len(part), 227, 227, 3), np.float32)
        for place, window in zip(stacked, part, strict=True):
            place[:] = images.warp(image, window, fill=preprocessing.fill)
        tall = preprocessing.apply(stacked.reshape(-1, 227, 3))  # at once: half the time
        batches.append(tall.permute(1, 2, 0).reshape(stacked.shape).permute(0, 3, 1, 2))
    return batches


@torch.inference_mode()
def conv_all(warped: list[torch.Tensor], network: Network, batch: int) -> list[torch.Tensor]:
    """Conv features of each warped window."""
    return [network(part) for some in warped for part in some.split(batch)]


@torch.inference_mode()
def pool_all(warped: list[torch.Tensor], network: Network, batch: int) -> torch.Tensor:
    """Pool5 of each warped window: 3x3/2 of a 13x13 map, bin-major."""
    maps = conv_all(warped, network, batch)
    pooled = (max_pool2d(part, 3, stride=2) for part in maps)
    return torch.cat([part.permute(0, 2, 3, 1).flatten(1) for part in pooled])


@torch.inference_mode()
def fc_all(vectors: torch.Tensor, network: Network) -> torch.Tensor:
    """fc7 of all windows in one batch."""
    return network.fc(vectors, "fc7")


def feature_maps(resized: list[features.Resized], network: Network) -> list[torch.Tensor]:
    """Conv features of the image at each scale."""
    return [features.feature_maps([one], network)[0] for one in resized]


@torch.inference_mode()
def fc7(scene: Scene, network: Network, settings: Features, reuse: bool) -> torch.Tensor:
    """fc7 of all windows, from the decoded image on."""
    windows = scene.windows
    resized, places = features.resize_to_scales(scene.image, windows, network, settings)
    maps = feature_maps(resized, network)
    if reuse:
        distinct = features.distinct_cells(resized, places, windows, network)
        vectors = features.pool_cells(maps, distinct.cells, settings.levels)
        return network.fc(vectors, "fc7")[torch.from_numpy(distinct.rows)]
    order = np.argsort(places, kind="stable")
    cells = []
    for place, (image, found) in enumerate(zip(resized, maps, strict=True)):
        size = (found.shape[2], found.shape[1])
        chosen = windows[places == place]
        cells.append(spp.window_cells(chosen, image.factors, network.geometry, size))
    vectors = network.fc(features.pool_cells(maps, cells, settings.levels), "fc7")
    return vectors[torch.from_numpy(np.argsort(order))]


def distinct_share(scene: Scene, network: Network, settings: Features) -> float:
    """Distinct cells by windows."""
    resized, places = features.resize_to_scales(scene.image, scene.windows, network, settings)
    distinct = features.distinct_cells(resized, places, scene.windows, network)
    return distinct.count / len(scene.windows)


def check(plain: Network) -> None:
    """A window that is the whole of a warped image has the same features either way."""
    noise = np.random.default_rng(1).uniform(0, 255, (227, 227, 3)).astype(np.float32)
    warped = plain.preprocessing.apply(noise)[None]
    with torch.inference_mode():
        maps = plain(warped)[0]
        pooled = spp.pool(maps, np.array([[0, 0, 13, 13]]), (6,))
    assert torch.equal(pooled, pool_all([warped], plain, 1))


def require_equal(reused: torch.Tensor, exact: torch.Tensor) -> None:
    """The same vectors, but for sums that run in another order in a batch of another size."""
    difference = (reused.float() - exact.float()).norm() / exact.float().norm()
    assert difference < (1e-5 if exact.dtype == torch.float32 else 1e-2), difference


def crowded_windows(count: int) -> np.ndarray:
    """Windows of which many differ by a few pixels, as those of merged regions do.

    Tuned to what selective search gives on photographs of PASCAL VOC: a median of 62 px for the
    root of the area, and 81% (s=688) and 86% (five scales) on cells of their own.
    """
    rng = np.random.default_rng(0)
    bases = round(0.5 * count)
    spread = rng.normal(0, 0.35, (bases, 2)) + rng.normal(0, 0.65, (bases, 1))
    size = np.clip(62 * np.exp(spread), 20, SIZE).round()
    corner = np.floor(rng.random((bases, 2)) * (SIZE - size + 1))
    first = np.hstack([corner, corner + size])
    grown = rng.geometric(1 / 5, (count - bases, 4)) * (rng.random((count - bases, 4)) < 0.5)
    near = first[rng.integers(0, bases, count - bases)] + grown * [-1, -1, 1, 1]
    return np.clip(np.vstack([first, near]), 0, [*SIZE, *SIZE]).astype(np.float32)


if __name__ == "__main__":
    main(run)
