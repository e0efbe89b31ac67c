"""What one writes without this project: a Ray actor that pools window by window.

No benchmark, but a peer in one: `extraction.py`.
"""

import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d

from pipeline import images, spp
from pipeline.extraction import ExtractionSpec
from pipeline.store.schema import box_array

SCRIPT_IMAGES = 3  # seconds each; the first one warms up


@ray.remote
class Script:
    """Takes a photograph and writes a row for each window."""

    def __init__(self, spec: ExtractionSpec) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self._network, self._features = spec.network.load(), spec.features

    @torch.inference_mode()
    def extract(self, row: dict[str, str], windows: np.ndarray, file: Path) -> None:
        """One photograph."""
        pixels = np.asarray(Image.open(row["file"]).convert("RGB"))
        resized, factors = images.resize(pixels, self._features.scales[0])
        feature_map = self._network(self._network.preprocessing.apply(resized)[None])[0]
        size = (feature_map.shape[2], feature_map.shape[1])
        cells = spp.window_cells(windows, factors, self._network.geometry, size)
        columns = {
            "image_id": [row["image_id"]] * len(cells),
            "window_id": np.arange(len(cells)),
            "vector": [self._pool(feature_map, *four) for four in cells],
        }
        pq.write_table(pa.table(columns), file)

    def _pool(self, feature_map: torch.Tensor, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        window = feature_map[:, y0:y1, x0:x1]
        bins = [adaptive_max_pool2d(window, n).flatten(1) for n in self._features.levels]
        return torch.cat(bins, dim=1).T.flatten().numpy()


def script_s(spec: ExtractionSpec, folder: Path) -> float:
    """Seconds an image, of the first few, once the actor is up and warm."""
    listed, table = pq.read_table(spec.images).to_pylist(), pq.read_table(spec.windows)
    corners = box_array(table).reshape(len(listed), -1, 4)
    folder.mkdir(exist_ok=True)
    actor = Script.remote(spec)
    jobs = [
        (row, windows, folder / f"{row['image_id']}.parquet")
        for row, windows in zip(listed[:SCRIPT_IMAGES], corners, strict=False)
    ]
    ray.get(actor.extract.remote(*jobs[0]))
    start = time.perf_counter()
    ray.get([actor.extract.remote(*job) for job in jobs[1:]])
    spent = time.perf_counter() - start
    ray.kill(actor)
    return spent / (len(jobs) - 1)


def check_script(held: np.ndarray, folder: Path) -> None:
    """The script's vectors are ours before they are narrowed; it has the first images alone."""
    written = pa.concat_tables(pq.read_table(file) for file in sorted(folder.iterdir()))
    flat = written["vector"].combine_chunks().flatten().to_numpy()
    theirs = flat.reshape(-1, held.shape[1]).astype(np.float16)
    np.testing.assert_array_equal(held[: len(theirs)], theirs)
