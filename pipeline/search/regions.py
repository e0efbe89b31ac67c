"""Vectors of boxes that nobody has extracted: any box on any image, of the store or not.

A window that the store holds is read. In a store of maps any other box of its images is pooled, and
the network does not run again. Else it runs: on one image, in the time that the extraction took.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from pipeline import features, images, spp
from pipeline.boxes import as_boxes
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.networks import Network
from pipeline.networks import digest as network_digest
from pipeline.store.map_spec import read_map_spec
from pipeline.store.maps import ShardMaps
from pipeline.store.reader import Store
from pipeline.store.records import MAPS
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, box_array

WAYS_OUT = (
    "name the store as RECIPE:train or RECIPE:test, so that its network is known; or take a stored "
    "window"
)
Loads = Callable[[], Network | None]
"""Gives the network that made a store, if it is known; asked only where there is no other way."""


class NeedsNetworkError(InputError):
    """A box has no stored vector, and the network that would make one is not known."""


@dataclass(frozen=True)
class Regions:
    """Boxes of one image with their vectors."""

    vectors: Float[np.ndarray, "boxes dim"]
    """As the store would hold them."""
    scale_px: Int[np.ndarray, " boxes"]
    """Shorter side of the image at which each was pooled."""


def region_vectors(
    store: Store,
    image: str | Path,
    boxes: ArrayLike | None = None,
    network: Loads = lambda: None,
) -> Regions:
    """Return the vectors of boxes on an image, as the store would hold them.

    Args:
        store: says how vectors are made.
        image: the id of one of its images, or a file.
        boxes: `[boxes 4]`, SPEC §1 boxes in pixels of the image; None: all of it.
        network: gives that which made the store; asked for only where a box is no stored window,
            and there is no map of its scale either.

    Raises:
        InputError: no such image, a box that is empty or outside of it, another network than the
            store's; or the file is no image, or a broken one.
        NeedsNetworkError: there is none where one is needed.
    """
    row = store.image(str(image))
    if row is None and not Path(image).is_file():
        raise InputError(f"{image} is no image of {store.root}, nor is there such a file")
    file = Path(image) if row is None else Path(row["file"])
    with _named(file):
        size = images.read_size(file) if row is None else (row["width"], row["height"])
    given = as_boxes([(0, 0, *size)] if boxes is None else boxes)
    _require_inside(given, size, str(image))
    if row is not None:
        known = _stored(store, row["image_id"], size, given)
        if known is not None:
            return known
    loaded = network()
    if loaded is None:
        raise NeedsNetworkError(_why_none(store, str(image), row is not None, size, given))
    _require_same(store, loaded)
    with _named(file):
        pixels = images.load(file)
        return Regions(*features.window_vectors(pixels, given, loaded, _settings(store)))


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Say which file it is that is no image, or not there any more."""
    try:
        yield
    except images.UndecodableImage as error:
        raise InputError(f"{file}: {error}") from None


def _settings(store: Store) -> Features:
    return Features(**store.made_from["features"])


def _require_inside(boxes: Float[np.ndarray, "boxes 4"], size: tuple[int, int], image: str) -> None:
    """Check that each box has an area, and lies in the image."""
    width, height = size
    for box in boxes.tolist():
        x_min, y_min, x_max, y_max = box
        if not (0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height):
            raise InputError(
                f"the box {box} is empty or not inside image {image}, which has {width}×{height} "
                "pixels: give x_min,y_min,x_max,y_max"
            )


def _require_same(store: Store, network: Network) -> None:
    digest = network_digest(network)
    if digest != store.made_from["network"]:
        raise InputError(
            f"{store.root} was made by the network {store.made_from['network']}, and this one is "
            f"{digest}: give the recipe that made the store"
        )


def _why_none(
    store: Store,
    image: str,
    listed: bool,
    size: tuple[int, int],
    boxes: Float[np.ndarray, "boxes 4"],
) -> str:
    """Return why there is no vector without the network."""
    shard = store.shard_of(image) if listed else None
    if shard is None or store.kind != "maps":
        way = "" if store.kind == "maps" or not listed else ", or a store of maps"
        return f"{store.root} has no vector of this box of {image}: {WAYS_OUT}{way}"
    asked = _scales(store, size, boxes)
    with _maps(store, shard) as maps:
        held = maps.scales_of(image)
    missing = next(k for k, scale_px in enumerate(asked.tolist()) if scale_px not in held)
    known = f"maps at {', '.join(map(str, sorted(held)))}" if held else "no map"
    return (
        f"the box {boxes[missing].tolist()} asks for scale {asked[missing]}, and {store.root} has "
        f"{known} of image {image}, for no window of it asked for another: {WAYS_OUT}"
    )


def _stored(
    store: Store, image_id: str, size: tuple[int, int], boxes: Float[np.ndarray, "boxes 4"]
) -> Regions | None:
    """Return the vectors of stored windows, or of any boxes where there are maps of the image."""
    shard = store.shard_of(image_id)
    if shard is None:
        return None
    first, windows = windows_of(store, shard, image_id)
    held = {tuple(box): row for row, box in enumerate(box_array(windows).tolist())}
    # Boxes are stored as float32: one that was typed as it is printed is meant.
    rows = [held.get(tuple(box)) for box in boxes.astype(np.float32).tolist()]
    if None not in rows:
        chosen = np.array(rows, np.int64)
        return Regions(Vectors(store).take(first + chosen), windows["scale_px"].to_numpy()[chosen])
    if store.kind == "maps":
        return _pooled(store, shard, image_id, size, boxes)
    return None


def windows_of(store: Store, shard: int, image_id: str) -> tuple[int, pa.Table]:
    """Return the windows of one image, without vectors, and the number of the first one's row.

    Args:
        store: the store.
        shard: the place in `store.shards` of the shard that has the image.
        image_id: of the image.
    """
    entry = store.shards[shard]
    columns = ["image_id", "window_id", *BOX_COLUMNS, "scale_px", "source"]
    rows = pa.concat_tables(scan_shard(store, entry.shard_id, columns))
    inside = np.flatnonzero(np.array(rows["image_id"].to_pylist(), object) == image_id)
    start = int(Vectors(store).first[shard])
    return start + (int(inside[0]) if len(inside) else 0), rows.take(inside)


def _pooled(
    store: Store,
    shard: int,
    image_id: str,
    size: tuple[int, int],
    boxes: Float[np.ndarray, "boxes 4"],
) -> Regions | None:
    """Pool boxes from the maps of an image, if those of the scales that they ask for are there.

    A scale that no window of the image asks for is not stored.
    """
    scales = _scales(store, size, boxes)
    columns = {name: pa.array(boxes[:, k], pa.float32()) for k, name in enumerate(BOX_COLUMNS)}
    ids = pa.array([image_id] * len(boxes), pa.string())
    rows = pa.table({"image_id": ids, **columns, "scale_px": pa.array(scales)})
    with _maps(store, shard) as maps:
        if not set(scales.tolist()) <= maps.scales_of(image_id):
            return None
        pooled = maps.pool(rows)
    return Regions(store.spec.to_numpy(pooled), scales)


def _scales(
    store: Store, size: tuple[int, int], boxes: Float[np.ndarray, "boxes 4"]
) -> Int[np.ndarray, " boxes"]:
    """Return the scale in pixels at which each box would be pooled."""
    settings = _settings(store)
    assert settings.scale_rule != "max"  # a store of maps never has it
    places = spp.choose_scale(
        boxes, size, settings.scales, settings.scale_rule, settings.reference_side_px
    )
    return np.array(settings.scales, np.int16)[places]


def _maps(store: Store, shard: int) -> ShardMaps:
    """Return the maps of a shard, to be opened."""
    spec = read_map_spec(store.schema)
    assert spec is not None
    return ShardMaps(store.root, store.shards[shard].name(MAPS), spec, store.spec)
