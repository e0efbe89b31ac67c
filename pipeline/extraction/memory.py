"""What a worker's memory will take at most, part by part, before anything runs.

Integers in, integers out: nothing is loaded, decoded or measured here. The parts follow the bounds
that `ShardExtractor` states; what no bound tells, the libraries and what an allocator holds back,
was measured once. `ShardStats.peak_bytes` is what a worker then took.

On a GPU, maps and activations lie in its memory and CUDA's libraries in the host's; neither was
measured, and the projection is a CPU worker's.
"""

from contextlib import suppress
from dataclasses import dataclass
from math import prod

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.extraction.extractor import WRITING
from pipeline.extraction.spec import vector_spec
from pipeline.features import WARPED_PX, WARPED_TOGETHER
from pipeline.networks import Network
from pipeline.networks.activations import activation_bytes, made_bytes

# Peak of a worker that extracts images of 300 px with a network of 0.1 MB: Python, the libraries,
# Ray, and 120 MB for compiling kernels on their first call (torch 2.13, numba 0.66, Ray 2.60).
LIBRARIES_BYTES = 760_000_000
DECODING_BYTES = 16  # a pixel: Pillow's four, converted four, an array of three, a copy, the file
PIXEL_BYTES = 12  # in float32
RESIZING_COPIES = 2  # beside the result: before and after the channels change places
WINDOW_BYTES = 120  # 40 in Arrow, in three copies while a shard's windows are read and sorted
LEVELS_BYTES = 4  # a number in the layout "list": Parquet's repetition and definition levels
MAP_COPIES = 4  # narrowed: as stored, in Parquet's page, packed, and while all that is checked
# glibc keeps freed pieces below 32 MB with the thread that had them. Measured: of activations up
# to four, or, where images have many sizes, about all that a pass makes and its compiled kernels,
# one for each size, in between; of all else a tenth.
PIECE_BYTES = 32 << 20
HELD_PIECES = 4
KERNELS_BYTES = 150_000_000
HELD_BACK = 10


@dataclass(frozen=True)
class Largest:
    """The extremes of an image set: they decide a worker's memory."""

    image_id: str
    """The image with the most pixels at all scales together."""
    size: tuple[int, int]
    """Its width and height, in pixels of the original."""
    decoded_px: int
    """Pixels of the largest original."""
    windows: int
    """Most windows of an image."""
    windows_image_id: str
    """Which image has them."""
    sizes: int = 1
    """How many different sizes images have: those of one size use each other's memory."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one worker, at most, by part."""

    parts: dict[str, int]
    largest: Largest | None
    """None where no image can be decoded."""

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def find_largest(images: pa.Table, settings: Features) -> Largest | None:
    """Return the extremes of images with their `image_id`, `width`, `height` and `windows`.

    An image that will be quarantined for its size is never decoded, and does not count.

    >>> ids, windows = ["a", "b"], [5, 4]
    >>> sizes = {"width": [30, 40], "height": [20, 20]}
    >>> images = pa.table({"image_id": ids, **sizes, "windows": windows})
    >>> find_largest(images, Features(scales=(10,)))
    Largest(image_id='b', size=(40, 20), decoded_px=800, windows=5, windows_image_id='a', sizes=2)
    """
    width, height = (images[name].to_numpy().astype(np.int64) for name in ("width", "height"))
    images = images.filter(pa.array(width * height <= settings.max_pixels))
    if not len(images):
        return None
    grouped = images.group_by(["width", "height"]).aggregate([("image_id", "min")])
    columns = (grouped[name].to_pylist() for name in ("width", "height", "image_id_min"))
    by_size = {(width, height): name for width, height, name in zip(*columns, strict=True)}
    size = max(sorted(by_size), key=lambda each: sum(map(prod, resized(*each, settings))))
    most = int(images["windows"].to_numpy().argmax())
    return Largest(
        by_size[size],
        size,
        max(map(prod, by_size)),
        images["windows"][most].as_py(),
        images["image_id"][most].as_py(),
        len(by_size),
    )


def resized(width: int, height: int, settings: Features) -> list[tuple[int, int]]:
    """Return the sizes of an image at all scales but those at which it would be quarantined."""
    if settings.mode == "warp":  # windows are cut out of it as it is
        return [(width, height)]
    clamp = settings.max_side_px
    sizes = [images.resized_size(width, height, each, clamp) for each in settings.scales]
    return [size for size in sizes if prod(size) <= settings.max_pixels]


def project_memory(
    network: Network,
    settings: Features,
    largest: Largest | None,
    *,
    number_bytes: int = 4,
    decode_threads: int = 1,
    shards_in_hand: int = 2,
) -> MemoryPlan:
    """Return what one worker takes at most.

    Args:
        network: `outline`'s is enough.
        settings: the recipe's `[features]`.
        largest: of all images.
        number_bytes: of the network's numbers: 4 for float32, 2 for bfloat16.
        decode_threads: of the worker.
        shards_in_hand: that the worker is sent at a time.
    """
    weights = sum(each.numel() for each in network.state_dict().values())
    parts = {"libraries": LIBRARIES_BYTES, "network": weights * number_bytes}
    if largest is not None:
        own = {
            **_pixels(settings, largest, decode_threads, shards_in_hand),
            **_feature_maps(network, settings, largest, number_bytes, shards_in_hand),
            **_vectors(network, settings, largest.windows, number_bytes, shards_in_hand),
        }
        kept = min(own["activations"], HELD_PIECES * PIECE_BYTES) * (shards_in_hand - 1)
        if largest.sizes > 1:
            kept = max(kept, _passed(network, settings, largest) + KERNELS_BYTES)
        parts |= own | {"held back": kept + sum(own.values()) // HELD_BACK}
    # Before anything else is there, weights are read as a file, filled in, and cast.
    loading = weights * (8 + (number_bytes if number_bytes < 4 else 0)) + LIBRARIES_BYTES
    parts["loading"] = max(0, loading - sum(parts.values()))
    return MemoryPlan(parts, largest)


def _pixels(settings: Features, largest: Largest, decode_threads: int, hand: int) -> dict[str, int]:
    """Images ahead of the network and in it, and what decoding one takes beside its result."""
    batch, sizes = settings.images_per_batch, resized(*largest.size, settings)
    ahead = hand * (decode_threads + batch) + settings.images_in_hand + 1
    beside = DECODING_BYTES * largest.decoded_px
    beside += RESIZING_COPIES * PIXEL_BYTES * max(map(prod, sizes), default=0)
    return {
        "images": ahead * PIXEL_BYTES * sum(map(prod, sizes)),
        "decoding": hand * decode_threads * beside,
    }


def _feature_maps(
    network: Network, settings: Features, largest: Largest, number_bytes: int, hand: int
) -> dict[str, int]:
    """Activations of a batch at one scale, and maps until what is made of them is written."""
    batch, activations, numbers = settings.images_per_batch, 0, 0
    if settings.mode == "warp":
        side = (WARPED_PX, WARPED_PX)
        one = activation_bytes(network, *side) + 2 * prod(side) * PIXEL_BYTES
        return {"activations": WARPED_TOGETHER * one, "maps": 0}
    for size in resized(*largest.size, settings):
        try:
            cells = prod(network.map_size(*size))
        except InputError:  # too small for a cell: the image will be quarantined
            continue
        own = activation_bytes(network, *size)
        if batch > 1 or number_bytes < 4:  # pixels are joined, or cast
            own += prod(size) * PIXEL_BYTES
        activations, numbers = max(activations, own), numbers + cells * network.channels
    # A map in the line keeps the whole batch that it was made in.
    wide = settings.images_in_hand + hand * (WRITING + 1 + 2 * (batch - 1))
    narrow = MAP_COPIES * _item_bytes(settings)
    return {
        "activations": batch * activations,
        "maps": numbers * (wide * number_bytes + narrow),
    }


def _passed(network: Network, settings: Features, largest: Largest) -> int:
    """All that the network makes of an image, in pieces that the allocator keeps."""
    passed = 0
    if settings.mode == "warp":
        made = made_bytes(network, WARPED_PX, WARPED_PX, PIECE_BYTES // WARPED_TOGETHER)
        return WARPED_TOGETHER * made
    for size in resized(*largest.size, settings):
        with suppress(InputError):  # too small for a cell
            passed += made_bytes(network, *size, PIECE_BYTES)
    return settings.images_per_batch * passed


def _vectors(
    network: Network, settings: Features, windows: int, number_bytes: int, hand: int
) -> dict[str, int]:
    """A shard's windows, and vectors from pooling to the disk."""
    vector = vector_spec(network, settings)
    image_bytes = windows * vector.row_bytes
    if settings.store == "maps":
        return {"windows": hand * settings.shard_images * windows * WINDOW_BYTES}
    shard_images = min(settings.shard_images, settings.shard_bytes // max(image_bytes, 1) + 1)
    group = min(settings.row_group_bytes + image_bytes, max(settings.shard_bytes, image_bytes))
    if settings.vector_layout == "list":
        group += group // _item_bytes(settings) * LEVELS_BYTES
    parts = {
        "windows": hand * shard_images * windows * WINDOW_BYTES,
        "row groups": hand * group,
    }
    line, copy = WRITING + 1, 1  # the copy in which reused vectors are repeated
    if settings.scale_rule == "max":  # one scale's, to be held against those before
        parts["windows"] += windows * network.layer_size("pool5", settings.levels) * number_bytes
    if settings.mode == "warp":  # an image's windows, pooled and through fc layers, at once
        wide = windows * network.layer_size("pool5", settings.levels) * number_bytes
        wide += 3 * windows * vector.length * number_bytes * (settings.layer != "pool5")
        return parts | {"vectors": hand * (line * (wide + image_bytes) + copy * image_bytes)}
    if settings.layer == "pool5":
        return parts | {"vectors": hand * (line + copy) * image_bytes}
    rows, pooled = settings.fc_rows, network.layer_size("pool5", settings.levels)
    made = rows * vector.length * (number_bytes + _item_bytes(settings))
    layers = 3 * rows * vector.length * number_bytes  # fc6's, fc7's, and one before its ReLU
    return parts | {
        "fc batch": rows * pooled * number_bytes + layers,
        "vectors": hand * (line * made + copy * image_bytes),
    }


def _item_bytes(settings: Features) -> int:
    return np.dtype(settings.vector_dtype).itemsize
