"""SPP pooling against per-window adaptive max pooling, in the same run on one thread.

    python benchmarks/pooling.py

2,000 windows × 50 bins × 256 channels on a 63×38 map: one VOC image at scale 688 with ZF-5.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import adaptive_max_pool2d

from pipeline import spp

LEVELS, RUNS = (6, 3, 2, 1), 7


def peer(feature_map: torch.Tensor, cells: np.ndarray) -> torch.Tensor:
    """Pool window by window and level by level, as one writes it with torch alone."""
    vectors = []
    for x0, y0, x1, y1 in cells:
        window = feature_map[:, y0:y1, x0:x1]
        vectors.append(
            torch.cat([adaptive_max_pool2d(window, n).flatten(1).T.flatten() for n in LEVELS])
        )
    return torch.stack(vectors)


def median_s(function: Callable[[], object], runs: int = RUNS) -> float:
    """Median wall-clock seconds; the first call, which compiles, does not count."""
    function()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def main() -> None:
    """Measure, check that both agree to the bit, and print the ratios."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    feature_map = torch.from_numpy(rng.standard_normal((256, 38, 63)).astype(np.float32))
    corner = rng.integers(0, [50, 30], (2000, 2))
    size = 1 + (rng.random((2000, 2)) * ([63, 38] - corner)).astype(int)
    cells = np.hstack([corner, np.minimum(corner + size, [63, 38])])
    ours = spp.pool(feature_map, cells, LEVELS)
    assert torch.equal(ours, peer(feature_map, cells))
    seconds = {
        "pipeline.spp.pool": median_s(lambda: spp.pool(feature_map, cells, LEVELS)),
        "torch adaptive_max_pool2d per window": median_s(lambda: peer(feature_map, cells), 3),
        "copy of the output": median_s(ours.clone),
    }
    base = seconds["pipeline.spp.pool"]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    for name, spent in seconds.items():
        print(f"{name:<38} {spent:8.4f} s   {spent / base:7.2f} × ours")
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
