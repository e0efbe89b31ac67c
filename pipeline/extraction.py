"""Images of one shard to one committed Parquet file: what an extractor does, without Ray.

Decoding and resizing run ahead on a thread while the network works on the image before.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline import config, features, images, networks
from pipeline.errors import InputError, RecipeError
from pipeline.store.plan import ShardPlan
from pipeline.store.schema import BOX_COLUMNS, VectorSpec, box_array
from pipeline.store.shards import ShardWriter, read_record
from pipeline.windows.table import WINDOWS, read_windows

AHEAD = 2  # images decoded in advance: one in work, one ready


@dataclass(frozen=True)
class NetworkSpec:
    """How to load the same network anywhere."""

    name: str
    weights: Path | None
    seed: int = 0
    preprocessing: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def load(self) -> networks.Network:
        """Return the network, on the CPU."""
        return networks.load(
            self.name,
            self.weights,
            seed=self.seed,
            preprocessing=self.preprocessing,
            **self.options,
        )


@dataclass(frozen=True)
class ExtractionSpec:
    """Everything an extractor needs to know; small enough to send anywhere."""

    root: Path
    """The store."""
    network: NetworkSpec
    features: config.Features
    images: Path
    """Parquet table of `pipeline.index.IMAGES`."""
    windows: Path
    """Folder of Parquet tables: image_id, window_id, box, source; sorted."""
    split: str
    made_from: str
    threads: int = 1
    """CPU threads of the network: fixed, for another number may round sums differently."""


@dataclass(frozen=True)
class ShardStats:
    """What came of a shard. All that travels back from an extractor."""

    shard_id: str
    rows: int
    bytes: int
    images: int
    quarantined: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage; empty where the shard was committed before."""


@dataclass(frozen=True)
class _Ready:
    """An image that is decoded and resized, or the reason why it cannot be."""

    image_id: str
    sha256: bytes
    windows: pa.Table
    reason: str | None = None
    resized: list[features.Resized] = field(default_factory=list)
    places: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    decode_s: float = 0.0


class ShardExtractor:
    """Holds the network, and turns shard plans into committed shards."""

    def __init__(self, spec: ExtractionSpec) -> None:
        torch.set_num_threads(spec.threads)
        self._spec = spec
        # TF32 keeps 10 bits of a product, fewer than a stored float16 has.
        torch.backends.cudnn.allow_tf32 = False
        network = spec.network.load()
        self._network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        self._vector = vector_spec(self._network, spec.features)
        table = pq.read_table(spec.images, filters=[("split", "=", spec.split)])
        self._images = {row["image_id"]: row for row in table.to_pylist()}

    def __call__(self, plan: ShardPlan) -> ShardStats:
        """Extract and commit one shard; a shard that is committed already is left as it is."""
        spec = self._spec
        record = read_record(spec.root, plan.shard_id)
        if record is not None and record.made_from == spec.made_from:
            return ShardStats(
                plan.shard_id, record.rows, record.bytes, len(record.images), record.quarantined
            )
        seconds: dict[str, float] = defaultdict(float)
        rows: dict[str, int] = {}
        quarantined: dict[str, str] = {}
        inputs = sha256()
        schema = self._vector.schema()
        group_bytes = spec.features.row_group_bytes
        with ShardWriter(spec.root, plan.shard_id, schema, group_bytes) as writer:
            for ready in self._prepared(plan, seconds):
                inputs.update(ready.sha256)
                if ready.reason is not None:
                    quarantined[ready.image_id] = ready.reason
                    continue
                table = self._rows(ready, seconds)
                with _timed(seconds, "write"):
                    writer.write(table)
                rows[ready.image_id] = len(table)
            with _timed(seconds, "write"):
                record = writer.commit(spec.made_from, rows, quarantined, inputs.hexdigest())
        return ShardStats(
            plan.shard_id, record.rows, record.bytes, len(rows), quarantined, dict(seconds)
        )

    def _prepared(self, plan: ShardPlan, seconds: dict[str, float]) -> Iterator[_Ready]:
        """Yield the shard's images in order, a bounded number decoded ahead."""
        windows = read_windows(self._spec.windows, plan.image_ids)
        with ThreadPoolExecutor(max_workers=1) as pool:
            waiting: deque[Future[_Ready]] = deque()
            for image_id in plan.image_ids:
                waiting.append(pool.submit(self._prepare, image_id, windows))
                if len(waiting) > AHEAD:
                    yield self._wait(waiting, seconds)
            while waiting:
                yield self._wait(waiting, seconds)

    @staticmethod
    def _wait(waiting: "deque[Future[_Ready]]", seconds: dict[str, float]) -> _Ready:
        with _timed(seconds, "wait"):
            ready = waiting.popleft().result()
        # Added here: what two threads write to would be seen half-written by one of them.
        seconds["decode"] += ready.decode_s
        return ready

    def _prepare(self, image_id: str, windows: dict[str, pa.Table]) -> _Ready:
        start = time.perf_counter()
        ready = self._decoded(image_id, windows.get(image_id, _NO_WINDOWS))
        return replace(ready, decode_s=time.perf_counter() - start)

    def _decoded(self, image_id: str, table: pa.Table) -> _Ready:
        """Read, decode and resize one image; what cannot be is quarantined with its reason."""
        row = self._images[image_id]
        try:
            data = Path(row["file"]).read_bytes()
        except FileNotFoundError:  # other errors are the disk's, and pass: the shard fails
            return _Ready(image_id, b"", table, f"there is no file {row['file']}")
        digest = sha256(data).digest()
        try:
            resized, places = self._resized(data, row, box_array(table))
        except images.UndecodableImage as error:
            return _Ready(image_id, digest, table, str(error))
        return _Ready(image_id, digest, table, None, resized, places)

    def _resized(
        self, data: bytes, row: dict[str, Any], boxes: np.ndarray
    ) -> tuple[list[features.Resized], np.ndarray]:
        image = images.decode(data, max_pixels=self._spec.features.max_pixels)
        held, expected = (image.shape[1], image.shape[0]), (row["width"], row["height"])
        if held != expected:
            text = "the file has {}×{} pixels, its annotation says {}×{}"
            raise images.UndecodableImage(text.format(*held, *expected))
        return features.resize_to_scales(image, boxes, self._network, self._spec.features)

    def _rows(self, ready: _Ready, seconds: dict[str, float]) -> pa.Table:
        """Return the shard's rows of one image."""
        settings, boxes = self._spec.features, box_array(ready.windows)
        with _timed(seconds, "network and pooling"):
            pooled = features.pool_windows(
                ready.resized, ready.places, boxes, self._network, settings
            )
        with _timed(seconds, "fc"):
            vectors = self._network.fc(pooled, settings.layer)
            column = self._vector.to_arrow(_narrow(ready.image_id, vectors, settings.vector_dtype))
        count = len(boxes)
        return pa.table(
            [
                *(ready.windows[name] for name in ("image_id", "window_id", *BOX_COLUMNS)),
                pa.array(features.scale_of(ready.resized, ready.places)),
                ready.windows["source"],
                pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [self._spec.split]),
                column,
            ],
            schema=self._vector.schema(),
        )


def vector_spec(network: networks.Network, settings: config.Features) -> VectorSpec:
    """Return what the vectors of this network and layer look like.

    Raises:
        RecipeError: the network cannot emit the layer, or reads another pyramid.
    """
    length = network.layer_size(settings.layer, settings.levels)
    if settings.layer != "pool5" and tuple(settings.levels) != tuple(network.levels):
        raise RecipeError(
            f"fc6 of {network.name} reads the pyramid {list(network.levels)}; "
            f"features.levels is {list(settings.levels)}"
        )
    return VectorSpec(length, settings.vector_dtype, settings.vector_layout)


_NO_WINDOWS = WINDOWS.empty_table()


def _narrow(image_id: str, vectors: torch.Tensor, dtype: str) -> np.ndarray:
    """Round to the stored dtype; a value it cannot hold is an error, not an infinity."""
    narrow = vectors.to(getattr(torch, dtype))
    if not torch.isfinite(narrow).all():
        largest = vectors.abs().max().item()
        raise InputError(
            f"image {image_id}: a feature of {largest:g} does not fit {dtype}, whose largest is "
            f'{torch.finfo(narrow.dtype).max:g}: set features.vector_dtype = "float32", or look '
            "at the weights and their preprocessing"
        )
    return narrow.cpu().numpy()


class _timed:  # noqa: N801 - reads as a word in `with _timed(...)`
    """Add the seconds of a `with` block to a stage."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._add = partial(self._count, seconds, stage)

    @staticmethod
    def _count(seconds: dict[str, float], stage: str, spent: float) -> None:
        seconds[stage] += spent

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._add(time.perf_counter() - self._start)
