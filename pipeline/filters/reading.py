"""The feature maps of a store's images: those that it keeps, or made by its network once more."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from pipeline import features, images
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.filters.sight import Picture, Sight
from pipeline.networks import Network
from pipeline.networks import digest as network_digest
from pipeline.store.map_spec import read_map_spec
from pipeline.store.maps import ShardMaps
from pipeline.store.reader import Store
from pipeline.store.records import MAPS
from pipeline.threads import torch_threads


@runtime_checkable
class Reader(Protocol):
    """Gives the feature map of an image."""

    sight: Sight

    def feature_map(self, picture: Picture) -> Float[np.ndarray, "channels rows cols"]:
        """Return the map of an image, in the numbers that the store has.

        Raises:
            InputError: there is none, or the image cannot be read.
        """
        ...


class StoredMaps:
    """The maps of a store of maps; needs no network. One shard's file is open at a time."""

    def __init__(self, store: Store, scale_px: int, network: Network | None = None) -> None:
        """Look at a store.

        Args:
            store: of maps.
            scale_px: of the maps.
            network: that made them, for receptive fields; its outline is enough. None: unknown.
        """
        spec = read_map_spec(store.schema)
        assert spec is not None
        self.sight = Sight(spec, scale_px, settings_of(store).max_side_px, network)
        self._store, self._spec = store, spec
        self._shard: int | None = None
        self._files = ExitStack()

    def __enter__(self) -> "StoredMaps":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def feature_map(self, picture: Picture) -> Float[np.ndarray, "channels rows cols"]:
        """Return an image's map as it was stored.

        Raises:
            InputError: it is missing or damaged.
        """
        store, image_id, scale_px = self._store, picture.image_id, self.sight.scale_px
        shard = store.shard_of(image_id)
        if shard is None:
            raise InputError(f"{store.root} has no map of image {image_id}")
        if shard != self._shard:
            self._files.close()
            self._shard = None  # until the next is open: it may be damaged
            entry = store.shards[shard]
            opened = ShardMaps(store.root, entry.name(MAPS), self._spec, store.spec)
            self._maps, self._shard = self._files.enter_context(opened), shard
        if scale_px not in (held := self._maps.scales_of(image_id)):
            known = ", ".join(map(str, sorted(held)))
            others = f"only at {known}: --scale takes one of them" if known else "at no scale"
            raise InputError(
                f"there is no map at scale {scale_px}, for no window asked for one; {others}"
            )
        return self._maps.feature_map(image_id, scale_px).numpy()


class NetworkMaps:
    """Maps that the network makes of one image after the other, on the CPU, as extraction does.

    With one thread, as there, and rounded as there: a store of maps has the same numbers.
    """

    def __init__(self, store: Store, scale_px: int, network: Network) -> None:
        """Check the network.

        Args:
            store: says how images are seen.
            scale_px: shorter side that they are resized to.
            network: that made the store.

        Raises:
            InputError: it is another one.
        """
        held, made = network_digest(network), store.made_from.get("network")
        if held != made:
            raise InputError(
                f"{store.root} was made by the network {str(made)[:12]}, and the recipe's is now "
                f"{held[:12]}: bring its weights back, or extract again"
            )
        settings = settings_of(store)
        # The whole image as it lies in its file, whatever windows or parts of it the store has.
        self._settings = settings.model_copy(
            update={
                "scales": (scale_px,),
                "scale_rule": "area",
                "mode": "pyramid",
                "view": "windows",
            }
        )
        self._network = network
        self.sight = Sight(network.geometry, scale_px, settings.max_side_px, network)

    def feature_map(self, picture: Picture) -> Float[np.ndarray, "channels rows cols"]:
        """Run the network over an image.

        Raises:
            InputError: the file is gone, no image, or another one than the store was made from.
        """
        settings = self._settings
        pixels = read_picture(picture, settings.max_pixels)
        whole = np.array([[0, 0, picture.width, picture.height]], np.float32)
        with torch_threads(1):
            (resized,), _ = features.resize_to_scales(pixels, whole, self._network, settings)
            made = features.feature_maps([resized], self._network)[0]
        if settings.layer == "pool5":
            dtype = getattr(torch, settings.vector_dtype)
            features.require_fit(picture.image_id, made, dtype)
            made = made.to(dtype)
        return made.to(torch.float32).numpy()


def read_picture(picture: Picture, max_pixels: int = images.MAX_PIXELS) -> np.ndarray:
    """Return an image's pixels, RGB.

    Raises:
        InputError: the file is gone, no image, or of another size than the store knows.
    """
    try:
        pixels = images.load(picture.file, max_pixels=max_pixels)
    except OSError as error:
        raise InputError(f"{picture.file} cannot be read: {error.strerror}") from None
    except images.UndecodableImage as error:
        raise InputError(f"{picture.file}: {error}") from None
    if pixels.shape[:2] != (picture.height, picture.width):
        raise InputError(
            f"{picture.file} has {pixels.shape[1]}×{pixels.shape[0]} pixels, and had "
            f"{picture.width}×{picture.height} when the store was made: bring that image back"
        )
    return pixels


def settings_of(store: Store) -> Features:
    """Return how the store's features were computed.

    Raises:
        InputError: the store does not say so.
    """
    try:
        return Features(**store.made_from["features"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{store.root} does not say how its features were computed: see spp verify"
        ) from None


def scale_in(store: Store, asked: int | None) -> int:
    """Return the scale at which maps are looked at: the largest of the store, or one asked for.

    Raises:
        InputError: a store of maps has none of that scale.
    """
    scales = sorted(settings_of(store).scales)
    if asked is not None and store.kind == "maps" and asked not in scales:
        raise InputError(
            f"{store.root} keeps maps at {', '.join(map(str, scales))}, and none at {asked}"
        )
    return scales[-1] if asked is None else asked


def pictures(store: Store, image_ids: Collection[str]) -> dict[str, Picture]:
    """Return images of a store by their ids, sorted.

    Raises:
        InputError: the table of images is damaged.
    """
    found = {}
    for row in store.images_named(image_ids).to_pylist():
        if not isinstance(row.get("file"), str) or "\0" in row["file"]:
            raise InputError(f"{store.root}/images.parquet names no file of {row['image_id']}")
        if not (row["width"] and row["height"] and min(row["width"], row["height"]) > 0):
            raise InputError(f"{store.root}/images.parquet says that {row['image_id']} has no size")
        # Files of a run directory start from the store, which may have gone along with it.
        file = Path(os.path.join(str(store.root), row["file"]))
        found[row["image_id"]] = Picture(row["image_id"], file, row["width"], row["height"])
    if missing := sorted(set(image_ids) - set(found)):
        raise InputError(f"{store.root}/images.parquet lacks image {missing[0]}: see spp verify")
    return {image_id: found[image_id] for image_id in sorted(found)}


def evenly(store: Store, count: int) -> list[str]:
    """Return ids of images of a store that could be read, evenly spread over all, in order.

    The first ones would often be of one folder, and so of one class. Only the records of shards
    that have one are read.
    """
    total = store.totals.images
    count = min(count, total)
    # The middles of as many equal parts.
    wanted = [(2 * part + 1) * total // (2 * count) for part in range(count)]
    return list(_numbered(store, wanted))


def _numbered(store: Store, wanted: Sequence[int]) -> Iterator[str]:
    """Yield the images of these numbers, which ascend."""
    start, at = 0, 0
    for entry in store.shards:
        stop, first = start + entry.images, at
        while at < len(wanted) and wanted[at] < stop:
            at += 1
        if at > first:
            ids = sorted(store.record(entry.shard_id).images)
            yield from (ids[number - start] for number in wanted[first:at])
        start = stop
